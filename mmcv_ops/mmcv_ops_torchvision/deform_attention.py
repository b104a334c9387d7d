"""Multi-scale deformable attention (Zhu et al. 2021, equation 3)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import operator, varying_gradients

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def _levels(
    value: Tensor, value_spatial_shapes: Tensor, value_level_start_index: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Each level's number and its part of `value`. [B, H, W, M, D]"""
    sizes, starts = value_spatial_shapes.tolist(), value_level_start_index.tolist()
    for level, ((height, width), start) in enumerate(zip(sizes, starts, strict=True)):
        yield level, value[:, start : start + height * width].unflatten(1, (height, width))


def _attend(maps: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """One level's share of the sum.

    Args:
        maps: [B, H, W, M, D].
        locations: (x, y), 0 to 1 over the map. [B, Q, M, P, 2]
        weights: [B, Q, M, P].

    Returns:
        [B, Q, M, D]
    """
    batch, _, heads = locations.shape[:3]
    maps = maps.permute(0, 3, 4, 1, 2).flatten(0, 1)  # [B M, D, H, W]
    grid = 2 * locations.transpose(1, 2).flatten(0, 1) - 1  # [B M, Q, P, 2]
    # With pixel centres at (i + 0.5) / size and zeros outside.
    samples = F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=False)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # [B M, 1, Q, P]
    result = (samples * weights).sum(-1)  # [B M, D, Q]
    return result.unflatten(0, (batch, heads)).permute(0, 3, 1, 2)


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: positions in float16 would be off by pixels on large maps."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@operator
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """For each query and head, the weighted sum of samples of all levels.

    Args:
        value: The maps of all levels, flattened, one after another. [B, S, M, D]
        value_spatial_shapes: Height and width of each level. [L, 2]
        value_level_start_index: Where each level starts in S. [L]
        sampling_locations: (x, y), 0 to 1 over each map. [B, Q, M, L, P, 2]
        attention_weights: [B, Q, M, L, P].
        im2col_step: How many images at a time; without meaning here.

    Returns:
        [B, Q, M D]
    """
    locations, weights = _wide(sampling_locations), _wide(attention_weights)
    result = locations.new_zeros(*locations.shape[:3], value.shape[-1])
    for level, maps in _levels(_wide(value), value_spatial_shapes, value_level_start_index):
        result += _attend(maps, locations[:, :, :, level], weights[:, :, :, level])
    return result.flatten(2).to(value.dtype)


@operator
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """The gradients, written to `grad_value`, `grad_sampling_loc` and `grad_attn_weight`.

    Level by level, sampling each again, so that the samples of one are in memory at a time.
    """
    locations, weights = _wide(sampling_locations), _wide(attention_weights)
    gradient = _wide(grad_output).unflatten(2, (value.shape[2], -1))  # [B, Q, M, D]
    destinations = _levels(grad_value, value_spatial_shapes, value_level_start_index)
    sources = _levels(_wide(value), value_spatial_shapes, value_level_start_index)
    for (level, maps), (_, grad_maps) in zip(sources, destinations, strict=True):
        parts = (maps, locations[:, :, :, level], weights[:, :, :, level])
        inputs = [part.detach().requires_grad_() for part in parts]
        with torch.enable_grad():
            result = _attend(*inputs)
        with varying_gradients("multi-scale deformable attention", value):
            gradients = torch.autograd.grad(result, inputs, gradient)
        grad_maps.copy_(gradients[0])
        grad_sampling_loc[:, :, :, level] = gradients[1]
        grad_attn_weight[:, :, :, level] = gradients[2]
