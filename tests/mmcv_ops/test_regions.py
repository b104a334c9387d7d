"""RoIAlign and RoIPool: against their definitions and against compiled mmcv."""

import math

import pytest
import torch
from bilinear import sample
from mmcv.ops import roi_align, roi_pool
from outputs import outputs_and_gradients

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every other": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}
# In order: within the map, across its border, smaller than a pixel, of the other image.
ROIS = torch.tensor(
    [[0, 2, 3, 21.5, 17], [0, -6, 20, 14, 60], [0, 9.25, 9.25, 9.5, 9.5], [1, 0, 0, 30, 30]]
)


def features(random, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 12, 10, generator=random, dtype=torch.float64).to(dtype)


def reference_roi_align(x, rois, bins, scale, ratio, aligned) -> torch.Tensor:
    """Section 3 of Mask R-CNN, with the borders of mmcv's and torchvision's documentation."""
    pooled = []
    for index, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * scale - 0.5 * aligned for corner in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        places = []
        for start, size, extent in ((y1, height, x.shape[2]), (x1, width, x.shape[3])):
            samples = ratio or math.ceil(size / bins)
            steps = (torch.arange(bins * samples, dtype=torch.float64) + 0.5) / samples
            place = start + steps * (size / bins)
            outside = (place < -1) | (place > extent)
            place = place.clamp(0, extent - 1)
            places.append((torch.where(outside, math.inf, place), samples))
        (y, down), (x_, across) = places
        image = x[int(index)]
        values = sample(image, *torch.meshgrid(y, x_, indexing="ij"))
        pooled.append(values.view(-1, bins, down, bins, across).mean((2, 4)))
    return torch.stack(pooled)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_roi_align_is_the_mean_of_bilinear_samples(served, random, ratio, aligned):
    x = features(random, torch.float64)
    found = outputs_and_gradients(
        lambda x: roi_align(x, ROIS.double(), 3, 0.5, ratio, "avg", aligned), x
    )
    expected = outputs_and_gradients(
        lambda x: reference_roi_align(x, ROIS.double(), 3, 0.5, ratio, aligned), x
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_is_that_of_the_compiled_mmcv(both, random, dtype, ratio, aligned):
    x = features(random, dtype)
    for rois in (ROIS, ROIS[:0]):
        result = both(
            lambda r=rois: outputs_and_gradients(
                lambda x: roi_align(x, r.to(dtype), (3, 2), 0.5, ratio, "avg", aligned), x
            )
        )
        torch.testing.assert_close(result.served, result.compiled, rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_roi_align_does_not_care_how_a_map_lies_in_memory(served, random, layout):
    """The compiled CPU operator reads such maps as if they were contiguous."""
    x = features(random)
    expected = outputs_and_gradients(lambda x: roi_align(x, ROIS, 3, 0.5), x)
    found = outputs_and_gradients(lambda x: roi_align(x, ROIS, 3, 0.5), LAYOUTS[layout](x))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_roi_align_takes_a_gradient_in_any_layout(served, random):
    x = features(random).requires_grad_()
    cotangent = torch.randn(4, 3, 3, 3, generator=random)
    output = roi_align(x, ROIS, 3, 0.5)
    (expected,) = torch.autograd.grad(output, x, cotangent, retain_graph=True)
    strided = cotangent.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(torch.autograd.grad(output, x, strided)[0], expected)


def test_roi_align_in_bfloat16(served, random):
    """Which no compiled mmcv takes on the CPU; summed up in float32."""
    x = features(random, torch.bfloat16)
    found = outputs_and_gradients(lambda x: roi_align(x, ROIS.bfloat16(), 3, 0.5), x)
    rois = ROIS.bfloat16().float()
    expected = outputs_and_gradients(lambda x: roi_align(x, rois, 3, 0.5), x.float())
    assert {each.dtype for each in found} == {torch.bfloat16}
    torch.testing.assert_close(found, [each.bfloat16() for each in expected])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_a_map_keeps_its_dtype(served, random, dtype):
    x = features(random, dtype)
    with torch.autocast("cpu", dtype):
        found = outputs_and_gradients(lambda x: roi_align(x, ROIS.to(dtype), 3, 0.5), x)
    expected = outputs_and_gradients(lambda x: roi_align(x, ROIS.to(dtype), 3, 0.5), x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found[0].dtype == dtype


def test_the_maximum_is_refused_by_name(served, random):
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*compiled mmcv: pip install"):
        roi_align(features(random), ROIS, 3, 0.5, 0, "max")


def test_roi_pool_takes_the_maximum_of_each_bin(served):
    """A map of 4 x 4 pixels numbered in reading order, in 2 x 2 bins."""
    x = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    rois = torch.tensor([[0, 0, 0, 3, 3], [0, 2, 2, 3, 3], [0, 2, 0, 7, 1.0]])
    output = roi_pool(x, rois, 2)
    assert output.flatten(1).tolist() == [[5, 7, 13, 15], [10, 11, 14, 15], [3, 0, 7, 0]]
    (gradient,) = torch.autograd.grad(output, x, torch.arange(1.0, 13).view(3, 1, 2, 2))
    expected = torch.zeros(16)
    expected[[5, 7, 13, 15]] = torch.tensor([1.0, 2, 3, 4])
    expected[[10, 11, 14, 15]] += torch.tensor([5.0, 6, 7, 8])
    expected[[3, 7]] += torch.tensor([9.0, 11])
    torch.testing.assert_close(gradient.flatten(), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_roi_pool_in_every_layout_dtype_and_without_rois(served, random, layout):
    x = features(random)
    expected = outputs_and_gradients(lambda x: roi_pool(x, ROIS, 3, 0.5), x)
    found = outputs_and_gradients(lambda x: roi_pool(x, ROIS, 3, 0.5), LAYOUTS[layout](x))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert roi_pool(x, ROIS[:0], 3, 0.5).shape == (0, 3, 3, 3)
    x = x.bfloat16()
    expected = outputs_and_gradients(lambda x: roi_pool(x, ROIS, 3, 0.5), x.float())
    found = outputs_and_gradients(lambda x: roi_pool(x, ROIS, 3, 0.5), x)
    torch.testing.assert_close(found, [each.bfloat16() for each in expected])
