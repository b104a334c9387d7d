"""Rotary position embedding of a grid (EVA-02, arXiv:2303.11331), as LocalVim has it."""

import torch
from torch import Tensor

__all__ = ["rotate_grid"]

_BASE = 10000.0


def rotate_grid(x: Tensor, learned_side: int = 14) -> Tensor:
    """Turn pairs of channels by angles that grow along rows and columns.

    The first half of the channels turns with the row i, the second with the column j: the pair of
    channels (2 m, 2 m + 1) of a half by ``t f_m`` with ``f_m = 10000^(-4 m / C)`` and ``t = i
    learned_side / H`` or ``j learned_side / W``. So a map of any size spans the angles of the grid
    that the weights were trained on, and no table is stored or interpolated.

    Args:
        x: ``[B, H, W, C]``, C a multiple of 4.
        learned_side: Rows and columns of the grid at which one token is one unit of t.

    Returns:
        ``[B, H, W, C]``.

    Raises:
        ValueError: C is not a multiple of 4.
    """
    height, width, channels = x.shape[1:]
    if channels % 4:
        raise ValueError(f"the channels of x must be a multiple of 4, got {tuple(x.shape)}")
    # Angles in the precision of x: under autocast the stream of tokens stays float32.
    frequency = _BASE ** (_count(channels // 4, x) * (-4 / channels))
    rows = _count(height, x) * (learned_side / height)
    columns = _count(width, x) * (learned_side / width)
    by_row, by_column = x.chunk(2, dim=-1)
    by_row = _turn(by_row, (rows[:, None] * frequency)[:, None])
    by_column = _turn(by_column, columns[:, None] * frequency)
    return torch.cat([by_row, by_column], dim=-1)


def _count(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, device=like.device, dtype=like.dtype)


def _turn(x: Tensor, angle: Tensor) -> Tensor:  # [..., 2 M], angles [..., M]
    cos, sin = angle.cos(), angle.sin()
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(turned, dim=-1).flatten(-2)
