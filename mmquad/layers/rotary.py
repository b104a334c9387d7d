"""Rotary position embedding of a grid (EVA-02, arXiv:2303.11331), as LocalVim has it."""

import torch
from torch import Tensor

from mmquad.layers.positions import resize_grid

__all__ = ["rotate_grid"]

_BASE = 10000.0


def rotate_grid(
    x: Tensor, learned_side: int = 14, table_grid: tuple[int, int] | None = None
) -> Tensor:
    """Turn pairs of channels by angles that grow along rows and columns.

    The first half of the channels turns with the row i, the second with the column j: the pair of
    channels (2 m, 2 m + 1) of a half by ``t f_m`` with ``f_m = 10000^(-4 m / C)`` and ``t = i
    learned_side / H`` or ``j learned_side / W``. So a map of any size spans the angles of the grid
    that the weights were trained on, and no table is stored or interpolated.

    Args:
        x: ``[B, H, W, C]``, C a multiple of 4.
        learned_side: Rows and columns of the grid at which one token is one unit of t.
        table_grid: What LocalMamba's release does instead: on maps that do not have these rows and
            columns, cosines and sines of those that have are interpolated, bicubically. Then x is
            also stretched.

    Returns:
        ``[B, H, W, C]``.

    Raises:
        ValueError: C is not a multiple of 4.
    """
    channels = x.shape[-1]
    height, width = table_grid or x.shape[1:3]
    if channels % 4:
        raise ValueError(f"the channels of x must be a multiple of 4, got {tuple(x.shape)}")
    # Angles in the precision of x: under autocast the stream of tokens stays float32.
    frequency = _BASE ** (_count(channels // 4, x) * (-4 / channels))
    rows = _count(height, x) * (learned_side / height)
    columns = _count(width, x) * (learned_side / width)
    angles = ((rows[:, None] * frequency)[:, None], columns[:, None] * frequency)
    if (height, width) != x.shape[1:3]:
        angle = torch.cat([each.expand(height, width, -1) for each in angles], dim=-1)[None]
        return _turn(x, *(resize_grid(t, *x.shape[1:3]) for t in (angle.cos(), angle.sin())))
    turned = (_turn(half, a.cos(), a.sin()) for half, a in zip(x.chunk(2, -1), angles, strict=True))
    return torch.cat(list(turned), dim=-1)


def _count(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, device=like.device, dtype=like.dtype)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # [..., 2 M], and [..., M] of the angles
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(turned, dim=-1).flatten(-2)
