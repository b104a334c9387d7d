"""Deformable convolution (Dai et al. 2017) and its modulated form (Zhu et al. 2019).

Of `offset` [B, 2 G kh kw, Ho, Wo], channels 2k and 2k + 1 move the k-th sample down and right; of
`mask` [B, G kh kw, Ho, Wo], channel k scales it. G groups of input channels share offsets.
`columns` and `ones` are scratch memory of mmcv's own kernels.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from .kernels import operator, ready_for_kernel, torchvision_kernel, varying_gradients

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
]

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    numbers: tuple[int, ...],
) -> Tensor:
    """torchvision's deformable convolution; `numbers` from the stride to the offset groups."""
    prepared = _operands(input, weight, offset, mask, bias)
    kernel = torchvision_kernel("deform_conv2d", input)
    return kernel(*prepared, *numbers, mask is not None)


def _backward(
    gradient: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    numbers: tuple[int, ...],
) -> Gradients:
    """Gradients of input, weight, offset, mask and bias."""
    gradient, *prepared = ready_for_kernel(gradient, *_operands(input, weight, offset, mask, bias))
    with varying_gradients("deformable convolution", input):
        kernel = torchvision_kernel("_deform_conv2d_backward", input)
        return kernel(gradient, *prepared, *numbers, mask is not None)


def _operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> list[Tensor]:
    # torchvision wants tensors for those two in any case.
    if mask is None:
        mask = input.new_zeros(len(input), 1)
    if bias is None:
        bias = input.new_zeros(len(weight))
    return ready_for_kernel(input, weight, offset, mask, bias)


def _start_of(tensor: Tensor, height: int, width: int) -> Tensor:
    """The numbers that mmcv reads of an offset or mask larger than the output: a view.

    mmcv's kernel takes each image's memory for [C, height, width], whatever its own shape, so it
    reads the first numbers there. DyHead relies on that, and its checkpoints are trained with it.

    Raises:
        ValueError: `tensor` is smaller than the output.
    """
    batch, channels = tensor.shape[:2]
    if tensor[0, 0].numel() < height * width:
        raise ValueError(
            f"the offset and mask of a modulated deformable convolution must cover its output: "
            f"expected at least {height} x {width}, got {tuple(tensor.shape[2:])}; compute them "
            "with the stride and padding of the convolution"
        )
    return tensor.reshape(batch, -1)[:, : channels * height * width].view(
        batch, channels, height, width
    )


@operator
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution without a bias, written to `output`.

    Args:
        input: [B, C, H, W].
        weight: [Co, C / group, kH, kW].
        offset: [B, 2 deformable_group kH kW, Ho, Wo].
        output: Written: [B, Co, Ho, Wo].
        columns: Scratch.
        ones: Scratch.
        kW: Kernel width; kH its height.
        kH: Kernel height.
        dW: Stride across; dH down.
        dH: Stride down.
        padW: Zeros left and right.
        padH: Zeros above and below.
        dilationW: Steps between samples, across.
        dilationH: Steps between samples, down.
        group: Groups of channels of the convolution.
        deformable_group: Groups of channels with offsets of their own.
        im2col_step: How many images at a time; torchvision chooses for itself.
    """
    numbers = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, offset, None, None, numbers))


class _WeightGradient:
    """The weight's gradient, found with the input's, until mmcv asks for it in a second call.

    It is kept on the scratch tensor that both calls are given, and is good for one backward pass
    only, which is told by the very tensor of incoming gradients.
    """

    def __init__(self, grad_output: Tensor, gradient: Tensor) -> None:
        self.grad_output = weakref.ref(grad_output)
        self.gradient = gradient

    @classmethod
    def take(cls, columns: Tensor, grad_output: Tensor) -> Tensor | None:
        """The gradient kept on `columns` for this backward pass; it is kept no longer."""
        kept = columns.__dict__.pop("weight_gradient", None)
        return kept.gradient if kept and kept.grad_output() is grad_output else None


@operator
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """The gradients of input and offset, written to `gradInput` and `gradOffset`."""
    numbers = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    found = _backward(gradOutput, input, weight, offset, None, None, numbers)
    gradInput.copy_(found[0])
    gradOffset.copy_(found[2])
    columns.weight_gradient = _WeightGradient(gradOutput, found[1])  # type: ignore[attr-defined]


@operator
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """The gradient of the weight, `scale` times, added to `gradWeight`."""
    gradient = _WeightGradient.take(columns, gradOutput)
    if gradient is None:
        numbers = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        weight = torch.zeros_like(gradWeight)  # its values do not enter its own gradient
        gradient = _backward(gradOutput, input, weight, offset, None, None, numbers)[1]
    gradWeight.add_(gradient.to(gradWeight.dtype), alpha=scale)


@operator
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Modulated deformable convolution, written to `output`.

    Args:
        input: [B, C, H, W].
        weight: [Co, C / group, kernel_h, kernel_w].
        bias: [Co], or empty.
        ones: Scratch.
        offset: [B, 2 deformable_group kernel_h kernel_w, Ho, Wo] or larger, see `_start_of`.
        mask: [B, deformable_group kernel_h kernel_w, Ho, Wo] or larger.
        output: Written: [B, Co, Ho, Wo].
        columns: Scratch.
        kernel_h: Kernel height.
        kernel_w: Kernel width.
        stride_h: Stride down.
        stride_w: Stride across.
        pad_h: Zeros above and below.
        pad_w: Zeros left and right.
        dilation_h: Steps between samples, down.
        dilation_w: Steps between samples, across.
        group: Groups of channels of the convolution.
        deformable_group: Groups of channels with offsets of their own.
        with_bias: Whether to add `bias`.

    Raises:
        ValueError: `offset` or `mask` is smaller than the output.
    """
    numbers = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    offset, mask = (_start_of(tensor, *output.shape[2:]) for tensor in (offset, mask))
    added = bias if with_bias else None
    output.copy_(_forward(input, weight, offset, mask, added, numbers))


@operator
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """The gradients, written to the five tensors `grad_*`, of which `grad_bias` if `with_bias`."""
    numbers = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    size = grad_output.shape[2:]
    found = _backward(
        *(grad_output, input, weight, _start_of(offset, *size), _start_of(mask, *size)),
        *(bias if with_bias else None, numbers),
    )
    grad_input.copy_(found[0])
    grad_weight.copy_(found[1])
    for destination, gradient in ((grad_offset, found[2]), (grad_mask, found[3])):
        whole = torch.zeros_like(destination, memory_format=torch.contiguous_format)
        _start_of(whole, *size).copy_(gradient)
        destination.copy_(whole)
    if with_bias:
        grad_bias.copy_(found[4])
