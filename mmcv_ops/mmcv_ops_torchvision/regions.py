"""Features of regions of interest (RoIs): (index in the batch, x1, y1, x2, y2)."""

from __future__ import annotations

from torch import Tensor

from .install import compiling_command
from .kernels import operator, ready_for_kernel, torchvision_kernel, varying_gradients

__all__ = ["roi_align_backward", "roi_align_forward", "roi_pool_backward", "roi_pool_forward"]


def _refuse_maximum(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' is not served by mmcv-ops-torchvision (pool_mode='avg' "
            f"is); it needs a compiled mmcv: {compiling_command()}"
        )


@operator
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al. 2017, section 3): means of bilinear samples in each bin.

    Args:
        input: Feature map. [B, C, H, W]
        rois: [K, 5] in image coordinates.
        output: Written: [K, C, aligned_height, aligned_width].
        argmax_y: Of the maximum; unused.
        argmax_x: Of the maximum; unused.
        aligned_height: Bins down.
        aligned_width: Bins across.
        spatial_scale: From image to feature map coordinates.
        sampling_ratio: Samples per bin and axis; 0 for as many as the bin has pixels.
        pool_mode: 1, the mean.
        aligned: Shift by half a pixel, so that coordinates name corners of pixels, not centres.

    Raises:
        NotImplementedError: `pool_mode` is 0, the maximum.
    """
    _refuse_maximum(pool_mode)
    features, regions = ready_for_kernel(input, rois)
    size = (spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned)
    output.copy_(torchvision_kernel("roi_align", input)(features, regions, *size))


@operator
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of `roi_align_forward`, written to `grad_input` [B, C, H, W]."""
    _refuse_maximum(pool_mode)
    gradient, regions = ready_for_kernel(grad_output, rois)
    size = (spatial_scale, aligned_height, aligned_width, *grad_input.shape)
    with varying_gradients("RoIAlign", grad_output):
        kernel = torchvision_kernel("_roi_align_backward", grad_output)
        grad_input.copy_(kernel(gradient, regions, *size, sampling_ratio, aligned))


@operator
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool (Girshick 2015, section 2.1): the maximum of each bin, borders rounded to pixels.

    Args:
        input: Feature map. [B, C, H, W]
        rois: [K, 5] in image coordinates.
        output: Written: [K, C, pooled_height, pooled_width].
        argmax: Written: where each maximum was. int32, same shape
        pooled_height: Bins down.
        pooled_width: Bins across.
        spatial_scale: From image to feature map coordinates.
    """
    features, regions = ready_for_kernel(input, rois)
    kernel = torchvision_kernel("roi_pool", input)
    values, places = kernel(features, regions, spatial_scale, pooled_height, pooled_width)
    output.copy_(values)
    argmax.copy_(places)


@operator
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """The gradient of `roi_pool_forward`, written to `grad_input` [B, C, H, W]."""
    gradient, regions = ready_for_kernel(grad_output, rois)
    size = (spatial_scale, pooled_height, pooled_width, *grad_input.shape)
    with varying_gradients("RoIPool", grad_output):
        kernel = torchvision_kernel("_roi_pool_backward", grad_output)
        grad_input.copy_(kernel(gradient, regions, argmax, *size))
