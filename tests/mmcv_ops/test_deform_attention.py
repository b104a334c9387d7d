"""Multi-scale deformable attention: against its equation and mmcv's function for the CPU."""

import pytest
import torch
from bilinear import sample
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from outputs import outputs_and_gradients

LEVELS = [(5, 4, 0), (3, 2, 20), (1, 1, 26)]  # height, width, start
SHAPES, STARTS = torch.tensor(LEVELS).split([2, 1], 1)
STARTS = STARTS[:, 0]
BATCH, QUERIES, HEADS, DIM, POINTS = 2, 6, 2, 3, 2


def inputs(random, dtype=torch.float64):
    """Value, locations (some outside the maps), weights."""
    tensors = (
        torch.randn(BATCH, 27, HEADS, DIM, generator=random, dtype=torch.float64),
        torch.rand(BATCH, QUERIES, HEADS, 3, POINTS, 2, generator=random, dtype=torch.float64) * 1.4
        - 0.2,
        torch.rand(BATCH, QUERIES, HEADS, 3, POINTS, generator=random, dtype=torch.float64),
    )
    return [each.to(dtype) for each in tensors]


def attend(value, locations, weights) -> torch.Tensor:
    return MultiScaleDeformableAttnFunction.apply(value, SHAPES, STARTS, locations, weights, 64)


def reference(value, locations, weights) -> torch.Tensor:
    """Equation 3: every level's map is 1 wide and high, pixel centres half a pixel inside."""
    images = []
    for b in range(BATCH):
        heads = []
        for m in range(HEADS):
            total = 0
            for level, (h, w, start) in enumerate(LEVELS):
                maps = value[b, start : start + h * w, m].T.view(DIM, h, w)
                x, y = locations[b, :, m, level].unbind(-1)
                values = sample(maps, y * h - 0.5, x * w - 0.5)  # [D, Q, P]
                total = total + (values * weights[b, :, m, level]).sum(-1)
            heads.append(total)
        images.append(torch.cat(heads).T)
    return torch.stack(images)


def test_it_is_the_papers(served, random):
    tensors = inputs(random)
    found = outputs_and_gradients(attend, *tensors)
    torch.testing.assert_close(found, outputs_and_gradients(reference, *tensors))


def test_it_is_what_mmcv_computes_on_the_cpu(served, random):
    tensors = inputs(random, torch.float32)
    expected = outputs_and_gradients(
        lambda v, *rest: multi_scale_deformable_attn_pytorch(v, SHAPES, *rest), *tensors
    )
    torch.testing.assert_close(outputs_and_gradients(attend, *tensors), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_up_in_float32(served, random, dtype):
    tensors = inputs(random, dtype)
    with torch.autocast("cpu", dtype):
        found = outputs_and_gradients(attend, *tensors)
    expected = outputs_and_gradients(attend, *(each.float() for each in tensors))
    assert {each.dtype for each in found} == {dtype}
    torch.testing.assert_close(found, [each.to(dtype) for each in expected], rtol=0.01, atol=0.01)


def test_tensors_in_any_layout(served, random):
    tensors = inputs(random)
    strided = [each.transpose(0, 1).contiguous().transpose(0, 1) for each in tensors]
    expected = outputs_and_gradients(attend, *tensors)
    torch.testing.assert_close(outputs_and_gradients(attend, *strided), expected)


def test_no_queries(served, random):
    value, locations, weights = inputs(random)
    assert attend(value, locations[:, :0], weights[:, :0]).shape == (BATCH, 0, HEADS * DIM)
