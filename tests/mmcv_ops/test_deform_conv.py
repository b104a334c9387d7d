"""Deformable convolutions: against their equations and against compiled mmcv."""

import pytest
import torch
from bilinear import sample
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from outputs import outputs_and_gradients

# stride, padding, dilation, groups, groups of offsets
CASES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), ((1, 2), (2, 1), (2, 1), 1, 2), (1, 0, 1, 4, 4)]
HEIGHT, WIDTH, CHANNELS, KERNEL = 7, 6, 4, (3, 2)


def pair(number) -> tuple[int, int]:
    return number if isinstance(number, tuple) else (number, number)


def inputs(case, random, dtype=torch.float64, larger: int = 0):
    """Input, offset, mask, weight and bias of a case; offsets up to pixels away."""
    stride, padding, dilation, groups, offset_groups = case
    size = [
        (extent + 2 * p - d * (k - 1) - 1) // s + 1
        for extent, p, d, k, s in zip(
            (HEIGHT, WIDTH), pair(padding), pair(dilation), KERNEL, pair(stride), strict=True
        )
    ]
    size[0] += larger
    taps = KERNEL[0] * KERNEL[1] * offset_groups
    shapes = (
        (2, CHANNELS, HEIGHT, WIDTH),
        (2, 2 * taps, *size),
        (2, taps, *size),
        (8, CHANNELS // groups, *KERNEL),
        (8,),
    )
    return [torch.randn(s, generator=random, dtype=torch.float64).to(dtype) for s in shapes]


def reference(case, x, offset, mask, weight, bias) -> torch.Tensor:
    """Equations 1 and 2 of DCNv2: each tap of the kernel is sampled where its offset says."""
    (down, across), (top, left), (dy, dx) = map(pair, case[:3])
    groups, offset_groups = case[3:]
    height, width = offset.shape[2:]
    rows = (torch.arange(height) * down - top).view(-1, 1).double()
    columns = (torch.arange(width) * across - left).double()
    images = []
    for image, shift, scale in zip(x, offset, mask, strict=True):
        taps = []
        for g, maps in enumerate(image.chunk(offset_groups)):
            for tap in range(KERNEL[0] * KERNEL[1]):
                i, j = divmod(tap, KERNEL[1])
                k = g * KERNEL[0] * KERNEL[1] + tap
                y = rows + i * dy + shift[2 * k]
                place = columns + j * dx + shift[2 * k + 1]
                taps.append(sample(maps, y, place) * scale[k])
        taps = torch.stack(taps).view(offset_groups, KERNEL[0] * KERNEL[1], -1, height, width)
        sampled = taps.transpose(1, 2).reshape(groups, -1, height * width)  # C, then taps
        filters = weight.reshape(groups, weight.shape[0] // groups, -1)
        images.append((filters @ sampled).view(-1, height, width) + bias.view(-1, 1, 1))
    return torch.stack(images)


@pytest.mark.parametrize("case", CASES)
def test_the_modulated_convolution_is_the_papers(served, random, case):
    tensors = inputs(case, random)
    found = outputs_and_gradients(lambda *t: modulated_deform_conv2d(*t, *case), *tensors)
    expected = outputs_and_gradients(lambda *t: reference(case, *t), *tensors)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_the_plain_one_has_neither_mask_nor_bias(served, random, case):
    x, offset, mask, weight, bias = inputs(case, random)
    found = outputs_and_gradients(lambda *t: deform_conv2d(*t, *case), x, offset, weight)
    expected = outputs_and_gradients(
        lambda x, o, w: reference(case, x, o, mask * 0 + 1, w, bias * 0), x, offset, weight
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_both_are_those_of_the_compiled_mmcv(both, random, case):
    tensors = inputs(case, random, torch.float32)
    result = both(
        lambda: outputs_and_gradients(lambda *t: modulated_deform_conv2d(*t, *case), *tensors)
    )
    torch.testing.assert_close(result.served, result.compiled, rtol=1e-4, atol=1e-5)
    x, offset, _, weight, _ = tensors
    result = both(
        lambda: outputs_and_gradients(lambda *t: deform_conv2d(*t, *case), x, offset, weight)
    )
    torch.testing.assert_close(result.served, result.compiled, rtol=1e-4, atol=1e-5)
    result = both(
        lambda: outputs_and_gradients(
            lambda x, o, m, w: modulated_deform_conv2d(x, o, m, w, None, *case), *tensors[:4]
        )
    )
    torch.testing.assert_close(result.served, result.compiled, rtol=1e-4, atol=1e-5)


def test_offsets_larger_than_the_output_are_read_as_the_compiled_mmcv_does(both, random):
    """DyHead hands over the offsets of a finer level; trained weights count on it."""
    case = (2, 1, 1, 1, 1)
    tensors = inputs(case, random, torch.float32, larger=3)
    result = both(
        lambda: outputs_and_gradients(lambda *t: modulated_deform_conv2d(*t, *case), *tensors)
    )
    torch.testing.assert_close(result.served, result.compiled, rtol=1e-4, atol=1e-5)


def test_such_offsets_are_the_first_numbers_of_each_image(served, random):
    case = (2, 1, 1, 1, 1)
    x, offset, mask, weight, bias = inputs(case, random, larger=3)
    size = (offset.shape[2] - 3, offset.shape[3])
    first = [t.flatten(1)[:, : t.shape[1] * size[0] * size[1]] for t in (offset, mask)]
    first = [t.view(2, -1, *size) for t in first]
    expected = modulated_deform_conv2d(x, *first, weight, bias, *case)
    assert torch.equal(modulated_deform_conv2d(x, offset, mask, weight, bias, *case), expected)


def test_smaller_offsets_are_refused(served, random):
    """The compiled mmcv reads past their end."""
    case = (1, 1, 1, 1, 1)
    x, offset, mask, weight, bias = inputs(case, random)
    with pytest.raises(ValueError, match=r"expected at least 7 x 7, got \(6, 7\)"):
        modulated_deform_conv2d(x, offset[:, :, 1:], mask[:, :, 1:], weight, bias, *case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_near_as_it_can_be(served, random, dtype):
    """Values; gradients by offsets are steps in any precision this coarse."""
    case = CASES[0]
    tensors = [t.to(dtype) for t in inputs(case, random)]
    with torch.autocast("cpu", dtype):
        found = modulated_deform_conv2d(*tensors, *case)
    assert found.dtype == dtype
    expected = reference(case, *(t.double() for t in tensors))
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=4 * epsilon, atol=64 * epsilon)


def test_maps_in_any_layout(served, random):
    case = CASES[0]
    tensors = inputs(case, random)
    expected = outputs_and_gradients(lambda *t: modulated_deform_conv2d(*t, *case), *tensors)
    strided = [
        t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() > 1 else t for t in tensors
    ]
    found = outputs_and_gradients(lambda *t: modulated_deform_conv2d(*t, *case), *strided)
    torch.testing.assert_close(found, expected)


def test_each_backward_pass_gets_a_weight_gradient_of_its_own(served, random):
    """The gradient found with the input's is for the pass that asked for both, and no other."""
    x, offset, _, weight, _ = inputs(CASES[0], random)
    x.requires_grad_()
    weight.requires_grad_()
    output = deform_conv2d(x, offset, weight, 1, 1)
    first, second = torch.randn(2, *output.shape, generator=random, dtype=torch.float64)

    def gradients(cotangent, *of):
        return torch.autograd.grad(output, of, cotangent, retain_graph=True)

    (alone,) = torch.autograd.grad(deform_conv2d(x, offset, weight, 1, 1), weight, second)
    gradients(first, x)  # asks for no weight gradient
    torch.testing.assert_close(gradients(second, weight)[0], alone)
    gradients(first, x, weight)
    torch.testing.assert_close(gradients(second, x, weight)[1], alone)


def test_the_second_derivative_is_refused(served, random):
    """As mmcv declares it: `once_differentiable`."""
    x, offset, _, weight, _ = inputs(CASES[0], random)
    output = deform_conv2d(x.requires_grad_(), offset, weight, 1, 1)
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output), create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.square().sum(), x)
