"""The quadtree scan of QuadMamba (arXiv:2410.06806, section 3.2-3.3, eq. 4-11).

The grid is cut in 2 x 2 coarse windows, each of them in 2 x 2 fine windows. Coarse windows are
visited in raster order; a chosen one is read fine window by fine window, any other one row by row.
Cuts lie at ``ceil(H / 2)`` and, inside each half, at its ceil-half, so every size works and no
padding exists. A shifted scan partitions the map rolled by half a fine window (fig. 4): here the
roll is part of the tables, nothing is copied.
"""

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.tokens import (
    gather_tokens_masked,
    gather_tokens_windowed,
    merge_tokens_masked,
    merge_tokens_windowed,
)
from mmquad.scans.base import cached_tables, invert, with_reverse

__all__ = ["SHIFT_CYCLE", "WINDOWS", "QuadScan", "QuadTables"]

WINDOWS = 4

# Signs of the roll (rows, columns), one per shifted block, repeated (fig. 8).
SHIFT_CYCLE = ((1, 1), (-1, -1), (1, -1), (-1, 1))


class QuadTables(NamedTuple):
    """Everything a quadtree layer needs to know of an H x W grid; L tokens, Q = 4 windows."""

    order: Tensor  # [2, K, L], coarse orders and fine orders: token read at each position
    inverse: Tensor  # [2, K, L]
    window: Tensor  # [L], coarse window of every token, in the shifted map
    mean: Tensor  # [L, Q], averages a map of scores over each window
    upsample: Tensor  # [L, Q], bilinear interpolation of one value per window
    occupied: Tensor  # [Q], whether a window holds any token (grids one token high or wide)


@dataclasses.dataclass(frozen=True)
class QuadScan:
    """One quadtree sequence and its reverse (K = 2).

    Args:
        shift: Signs of the roll along rows and columns; 0 for none.
        nested: Fine windows stay inside their coarse window's part of the sequence (the paper's
            text). False: fine windows follow the raster order of all 16 (the authors' release);
            the sequence then holds the sum of two tokens at some positions and none at others.
        scores_follow_shift: Scores are averaged over the windows of the shifted map. False: over
            those of the map as it was before the shift (release).
        shift_by_height: Both roll amounts come from H (release), not one from each axis.
    """

    shift: tuple[int, int] = (0, 0)
    nested: bool = True
    scores_follow_shift: bool = True
    shift_by_height: bool = False

    @property
    def directions(self) -> int:
        """Number of sequences K."""
        return 2

    def amounts(self, height: int, width: int) -> tuple[int, int]:
        """How far the map is rolled: half a fine window, ``H // 8`` and ``W // 8`` tokens."""
        across = height if self.shift_by_height else width
        return self.shift[0] * (height // 8), self.shift[1] * (across // 8)

    def tables(self, height: int, width: int, device: torch.device) -> QuadTables:
        """Orders, windows and averaging matrices, cached."""
        return cached_tables(self, height, width, device, self._build)

    def _build(self, height: int, width: int, device: torch.device) -> QuadTables:
        row_half, row_quarter, rows = _halves(height, device)
        column_half, column_quarter, columns = _halves(width, device)
        window = 2 * row_half[:, None] + column_half  # [H, W], of the map after the shift
        subwindow = 2 * row_quarter[:, None] + column_quarter
        if self.nested:
            fine_rank = window * WINDOWS + subwindow
        else:
            fine_rank = 4 * (2 * row_half + row_quarter)[:, None] + 2 * column_half + column_quarter
        raster = rows[:, None] * width + columns
        # Token at each place of the shifted map, so that orders name tokens of the original one.
        shifts = self.amounts(height, width)
        token = raster.roll(shifts, (0, 1)).flatten()
        size = height * width
        coarse = token[(window * size + raster).flatten().argsort()]
        fine = token[(fine_rank * size + raster).flatten().argsort()]
        index = torch.stack([with_reverse(coarse[None]), with_reverse(fine[None])])

        unshift = tuple(-amount for amount in shifts)
        token_window = window.roll(unshift, (0, 1)).flatten()
        member = F.one_hot(window.flatten(), WINDOWS)
        count = member.sum(0)
        mean = member / count.clamp(min=1)
        upsample = _bilinear(height, width, device)
        if self.scores_follow_shift:
            mean, upsample = (_roll_tokens(m, height, width, unshift) for m in (mean, upsample))
        return QuadTables(index, invert(index), token_window, mean, upsample, count > 0)

    def to_sequences(self, x: Tensor, weight: Tensor) -> Tensor:
        """Grid ``[B, H, W, D]`` -> ``[B, L, 2, D]``; ``weight [B, 4]`` is 1 for chosen windows."""
        tables = self.tables(x.shape[1], x.shape[2], x.device)
        gather = gather_tokens_windowed if self.nested else gather_tokens_masked
        return gather(x.flatten(1, 2), weight, tables.order, tables.inverse, tables.window)

    def to_grid(self, y: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        """Sequences ``[B, L, 2, D]`` -> grid ``[B, H, W, D]``, summed over directions."""
        tables = self.tables(height, width, y.device)
        merge = merge_tokens_windowed if self.nested else merge_tokens_masked
        grid = merge(y, weight, tables.order, tables.inverse, tables.window)
        return grid.unflatten(1, (height, width))


def _halves(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every position of an axis: its half (0, 1), the half of that half, and the position."""
    position = torch.arange(length, device=device)
    first = (length + 1) // 2
    half = (position >= first).long()
    inside = position - half * first
    size = torch.where(half == 0, first, length - first)
    return half, (inside >= (size + 1) // 2).long(), position


def _bilinear(height: int, width: int, device: torch.device) -> Tensor:
    """``[L, Q]``: interpolates one value per (occupied) window over the grid."""
    grid = (min(height, 2), min(width, 2))
    unit = torch.eye(WINDOWS, device=device).view(WINDOWS, 1, 2, 2)[..., : grid[0], : grid[1]]
    return F.interpolate(unit, size=(height, width), mode="bilinear").view(WINDOWS, -1).t()


def _roll_tokens(table: Tensor, height: int, width: int, amounts: tuple[int, ...]) -> Tensor:
    return table.view(height, width, -1).roll(amounts, (0, 1)).flatten(0, 1)
