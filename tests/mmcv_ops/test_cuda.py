"""The same operators on a GPU: against themselves on the CPU, and what is special there."""

import pytest
import torch
from mmcv.ops import (
    batched_nms,
    bbox_overlaps,
    deform_conv2d,
    masked_conv2d,
    modulated_deform_conv2d,
    nms,
    roi_align,
    roi_pool,
    sigmoid_focal_loss,
    soft_nms,
    softmax_focal_loss,
)
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from outputs import cotangent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

TARGET = torch.tensor([0, 4, 2, 5, 1, 5])
LEVELS = torch.tensor([[5, 4], [3, 2]])
STARTS = torch.tensor([0, 20])


def boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 70
    return torch.cat([corner, corner + torch.rand(count, 2) * 60], 1)


def rois() -> torch.Tensor:
    return torch.cat([torch.randint(2, (9, 1)).float(), boxes(9)], 1)


def attend(value, locations, weights, shapes, starts):
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


# Name: function, tensors with gradients, other tensors.
CASES = {
    "roi_align": (
        lambda x, r: roi_align(x, r, 3, 0.5, 0),
        lambda: [torch.randn(2, 3, 40, 40)],
        lambda: [rois()],
    ),
    "roi_pool": (
        lambda x, r: roi_pool(x, r, 3, 0.5),
        lambda: [torch.randn(2, 3, 40, 40)],
        lambda: [rois()],
    ),
    "deform_conv": (
        lambda *t: deform_conv2d(*t, 1, 1, 1, 1, 2),
        lambda: [torch.randn(2, 4, 9, 8), torch.randn(2, 36, 9, 8), torch.randn(8, 4, 3, 3)],
        list,
    ),
    "modulated_deform_conv": (
        lambda *t: modulated_deform_conv2d(*t, 2, 1),
        lambda: [
            torch.randn(2, 4, 9, 8),
            torch.randn(2, 18, 6, 5),  # larger than the output, as DyHead's
            torch.rand(2, 9, 6, 5),
            torch.randn(8, 4, 3, 3),
            torch.randn(8),
        ],
        list,
    ),
    "sigmoid_focal_loss": (
        lambda x, t: sigmoid_focal_loss(x, t, 2.0, 0.25, None, "none"),
        lambda: [torch.randn(6, 5)],
        lambda: [TARGET],
    ),
    "softmax_focal_loss": (
        lambda x, t: softmax_focal_loss(x, t, 2.0, 0.25, None, "sum"),
        lambda: [torch.randn(6, 6)],
        lambda: [TARGET],
    ),
    "ms_deform_attn": (
        attend,
        lambda: [
            torch.randn(2, 26, 2, 4),
            torch.rand(2, 7, 2, 2, 3, 2) * 1.2 - 0.1,
            torch.rand(2, 7, 2, 2, 3),
        ],
        lambda: [LEVELS, STARTS],
    ),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def outcome(function, tensors, others, device, dtype=torch.float32):
    """Output and gradients of a random projection, on a device and back."""
    moved = [each.to(device, dtype).requires_grad_() for each in tensors]
    others = [o.to(device, dtype) if o.is_floating_point() else o.to(device) for o in others]
    output = function(*moved, *others)
    gradients = torch.autograd.grad(output, moved, cotangent(output))
    return [each.detach().float().cpu() for each in (output, *gradients)]


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_cpu(served, name):
    function, make, make_others = CASES[name]
    tensors, others = make(), make_others()
    found = outcome(function, tensors, others, "cuda")
    torch.testing.assert_close(
        found, outcome(function, tensors, others, "cpu"), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast(served, name, dtype):
    """The output; gradients by positions are steps in any precision this coarse."""
    function, make, make_others = CASES[name]
    tensors = [each.to(dtype).float() for each in make()]
    others = [o.to(dtype).float() if o.is_floating_point() else o for o in make_others()]
    expected = outcome(function, tensors, others, "cpu")[0]
    with torch.autocast("cuda", dtype):
        found = outcome(function, tensors, others, "cuda", dtype)[0]
    tolerance = 64 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["roi_align", "roi_pool", "deform_conv", "ms_deform_attn"])
def test_deterministic_algorithms_do_not_stop_a_step(served, name):
    function, make, make_others = CASES[name]
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.warns(UserWarning, match="not deterministic on CUDA"):
            outcome(function, make(), make_others(), "cuda")
    finally:
        torch.use_deterministic_algorithms(False)


def test_boxes(served):
    found, scores, labels = boxes(500), torch.rand(500), torch.randint(5, (500,))
    on_gpu = [each.cuda() for each in (found, scores, labels)]
    for function in (
        lambda b, s, _: nms(b, s, 0.5)[1],
        lambda b, s, _: soft_nms(b, s)[1],
        lambda b, s, y: batched_nms(b, s, y, {"type": "nms", "iou_threshold": 0.5})[1],
        lambda b, s, _: bbox_overlaps(b, b),
    ):
        torch.testing.assert_close(function(*on_gpu).cpu(), function(found, scores, labels))


def test_masked_convolution(served):
    x, mask = torch.randn(1, 3, 9, 8), (torch.rand(1, 9, 8) < 0.4).float()
    weight, bias = torch.randn(4, 3, 3, 3), torch.randn(4)
    found = masked_conv2d(*(each.cuda() for each in (x, mask, weight, bias)), 1)
    expected = masked_conv2d(x, mask, weight, bias, 1)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_the_compiled_operators_agree(compiled, both):
    """Where mmcv is compiled for CUDA: values and gradients of everything."""
    if compiled.get_compiling_cuda_version() == "not available":
        pytest.skip("the compiled mmcv at hand is for the CPU alone")
    for function, make, make_others in CASES.values():
        tensors, others = make(), make_others()
        result = both(lambda f=function, t=tensors, o=others: outcome(f, t, o, "cuda"))
        torch.testing.assert_close(result.served, result.compiled, rtol=1e-4, atol=1e-4)
