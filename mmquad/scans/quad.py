"""The quadtree scan of QuadMamba (arXiv:2410.06806, section 3.2-3.3, eq. 4-11).

The grid is cut in 2 x 2 coarse windows, each of them in 2 x 2 fine windows. Coarse windows are
visited in raster order; a chosen one is read fine window by fine window, any other one row by row.
Cuts lie at ``ceil(H / 2)`` and, inside each half, at its ceil-half, so every size works and no
padding exists. A shifted scan partitions the map rolled by half a fine window (fig. 4): here the
roll is part of the tables, nothing is copied.

The coarse windows may be larger or smaller, and a third level may cut one fine window of each
chosen window again.
"""

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.tokens import (
    gather_tokens_masked,
    gather_tokens_mixed,
    gather_tokens_windowed,
    merge_tokens_masked,
    merge_tokens_mixed,
    merge_tokens_windowed,
)
from mmquad.scans.base import INDEX, Scan, Shapes, invert, with_reverse

__all__ = ["CHILDREN", "SHIFT_CYCLE", "QuadScan", "QuadTables", "WindowTables"]

CHILDREN = 4  # windows that a window is cut into

# Signs of the roll (rows, columns), one per shifted block, repeated (fig. 8).
SHIFT_CYCLE = ((1, 1), (-1, -1), (1, -1), (-1, 1))


class WindowTables(NamedTuple):
    """The fine windows of a three-level quadtree; window ``4 q + i`` is part i of window q."""

    window: Tensor  # [L], fine window of every token, in the shifted map
    mean: Tensor  # [L, 4 Q]
    occupied: Tensor  # [4 Q]; all true for the parts of an empty window: one of them is chosen too


class QuadTables(NamedTuple):
    """Everything a quadtree layer needs to know of an H x W grid; L tokens, Q coarse windows."""

    order: Tensor  # [2 or 3, K, L], coarse orders, fine orders...: token read at each position
    inverse: Tensor  # [2 or 3, K, L]
    window: Tensor  # [L], coarse window of every token, in the shifted map
    mean: Tensor  # [L, Q], averages a map of scores over each window
    upsample: Tensor  # [L, Q], bilinear interpolation of one value per window
    occupied: Tensor  # [Q], whether a window holds any token (grids one token high or wide)
    fine: WindowTables | None = None  # with three levels


@dataclasses.dataclass(frozen=True)
class QuadScan(Scan[QuadTables]):
    """One quadtree sequence and its reverse (K = 2).

    Args:
        shift: Signs of the roll along rows and columns; 0 for none.
        nested: Fine windows stay inside their coarse window's part of the sequence (the paper's
            text). False: fine windows follow the raster order of all of them (the authors'
            release); the sequence then holds the sum of two tokens at some positions and none at
            others.
        scores_follow_shift: Scores are averaged over the windows of the shifted map. False: over
            those of the map as it was before the shift (release).
        shift_by_height: Both roll amounts come from H (release), not one from each axis.
        coarse_level: The coarse windows are the grid halved this often along each axis, the fine
            ones once more: 0, 1, 2 are the resolutions (1, 1/2), (1/2, 1/4), (1/4, 1/8) of Table 5.
        levels: 2; or 3: of each chosen window one fine window is read in four parts again.

    Raises:
        ValueError: A level is out of range, or three levels are not nested.
    """

    shift: tuple[int, int] = (0, 0)
    nested: bool = True
    scores_follow_shift: bool = True
    shift_by_height: bool = False
    coarse_level: int = 1
    levels: int = 2

    def __post_init__(self) -> None:
        if self.coarse_level < 0 or self.levels not in (2, 3):
            raise ValueError(
                f"coarse_level must be at least 0 and levels 2 or 3; got {self.coarse_level} and "
                f"{self.levels}"
            )
        if self.levels == 3 and not self.nested:
            raise ValueError("three levels exist in nested order only: drop nested=False")

    @property
    def directions(self) -> int:
        """Number of sequences K."""
        return 2

    @property
    def windows(self) -> int:
        """Number of coarse windows Q."""
        return CHILDREN**self.coarse_level

    @property
    def fused(self) -> bool:
        """Whether the fused op can do it: two orders that mix to a permutation."""
        return self.nested and self.levels == 2

    def amounts(self, height: int, width: int) -> tuple[int, int]:
        """How far the map is rolled: half a fine window (``H // 8``, ``W // 8`` by default)."""
        across = height if self.shift_by_height else width
        parts = 4 * 2**self.coarse_level
        return self.shift[0] * (height // parts), self.shift[1] * (across // parts)

    def occupied_windows(self, height: int, width: int) -> int:
        """Number of coarse windows that hold tokens: fewer than Q on grids smaller than them."""
        side = 2**self.coarse_level
        return min(height, side) * min(width, side)

    def build(self, height: int, width: int) -> list[Tensor]:
        level = self.coarse_level
        depth = level + self.levels - 1
        rows, columns = _halves(height, depth), _halves(width, depth)
        # Windows of the map after the shift, level by level, [H, W] each.
        windows = [_raster_windows(rows[:level], columns[:level])]
        for row, column in zip(rows[level:], columns[level:], strict=True):
            windows.append(CHILDREN * windows[-1] + 2 * row[:, None] + column)
        ranks = windows if self.nested else [windows[0], _raster_windows(rows, columns)]
        size = height * width
        raster = torch.arange(size).view(height, width)
        # Token at each place of the shifted map, so that orders name tokens of the original one.
        shifts = self.amounts(height, width)
        token = raster.roll(shifts, (0, 1)).flatten()
        orders = [token[(rank * size + raster).flatten().argsort()] for rank in ranks]
        index = torch.stack([with_reverse(order[None]) for order in orders])

        unshift = tuple(-amount for amount in shifts)
        score_shift = unshift if self.scores_follow_shift else (0, 0)
        token_window = windows[0].roll(unshift, (0, 1)).flatten()
        mean, count = _averages(windows[0], self.windows, score_shift)
        upsample = _roll_tokens(_bilinear(height, width, level), windows[0], score_shift)
        tables = [index, invert(index, size), token_window, mean, upsample, count > 0]
        if self.levels == 3:
            fine_mean, fine_count = _averages(windows[1], CHILDREN * self.windows, score_shift)
            parts = fine_count.view(-1, CHILDREN)
            occupied = ((parts > 0) | (count == 0)[:, None]).flatten()
            tables += [windows[1].roll(unshift, (0, 1)).flatten(), fine_mean, occupied]
        return [
            (table.to(INDEX) if table.dtype == torch.int64 else table).contiguous()
            for table in tables
        ]

    def shapes(self, height: int, width: int) -> Shapes:
        length, windows = height * width, self.windows
        order = (self.levels, self.directions, length)
        shapes: Shapes = [(order, INDEX), (order, INDEX), ((length,), INDEX)]
        shapes += [((length, windows), torch.float32), ((length, windows), torch.float32)]
        shapes += [((windows,), torch.bool)]
        if self.levels == 3:
            parts = CHILDREN * windows
            shapes += [((length,), INDEX), ((length, parts), torch.float32), ((parts,), torch.bool)]
        return shapes

    def pack(self, tables: list[Tensor]) -> QuadTables:
        order, inverse, window, mean, upsample, occupied, *fine = tables
        parts = WindowTables(*fine) if fine else None
        return QuadTables(order, inverse, window, mean, upsample, occupied, parts)

    def to_sequences(self, x: Tensor, weight: Tensor) -> Tensor:
        """Grid ``[B, H, W, D]`` -> sequences ``[B, L, 2, D]``.

        ``weight`` is what :class:`mmquad.layers.window_selector.WindowSelector` gives: 1 for chosen
        windows and 0 for others, ``[B, Q]``, and with three levels ``[B, Q + 4 Q]``, the fine
        windows after the coarse ones.
        """
        tables = self.tables(x.shape[1], x.shape[2], x.device)
        if tables.fine is not None:
            masks = self._masks(weight, tables.window, tables.fine.window)
            return gather_tokens_mixed(x.flatten(1, 2), masks, tables.order, tables.inverse)
        gather = gather_tokens_windowed if self.nested else gather_tokens_masked
        return gather(x.flatten(1, 2), weight, tables.order, tables.inverse, tables.window)

    def to_grid(self, y: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        """Sequences ``[B, L, 2, D]`` -> grid ``[B, H, W, D]``, summed over directions."""
        tables = self.tables(height, width, y.device)
        if tables.fine is not None:
            masks = self._masks(weight, tables.window, tables.fine.window)
            grid = merge_tokens_mixed(y, masks, tables.order, tables.inverse)
        else:
            merge = merge_tokens_windowed if self.nested else merge_tokens_masked
            grid = merge(y, weight, tables.order, tables.inverse, tables.window)
        return grid.unflatten(1, (height, width))

    def _masks(self, weight: Tensor, window: Tensor, fine_window: Tensor) -> Tensor:
        """How each token is read: coarse, fine or finest; ``[3, B, L]``, adding up to 1."""
        chosen = weight[:, : self.windows][:, window]
        # A fine window counts in a chosen coarse one only, and gets a gradient there only.
        again = chosen * weight[:, self.windows :][:, fine_window]
        return torch.stack([1 - chosen, chosen - again, again])


def _halves(length: int, depth: int) -> Tensor:
    """``[depth, length]``: for every position its half (0, 1), the half of that half, and so on."""
    position = torch.arange(length)
    size = torch.full_like(position, length)
    halves = []
    for _ in range(depth):
        first = (size + 1) // 2
        half = (position >= first).long()
        position = position - half * first
        size = torch.where(half == 0, first, size - first)
        halves.append(half)
    return torch.stack(halves)


def _raster_windows(rows: Tensor, columns: Tensor) -> Tensor:
    """``[H, W]``: windows that halving each axis leaves, counted in raster order."""
    row, column = (
        sum((half << i for i, half in enumerate(halves.flip(0))), halves.new_zeros(halves.shape[1]))
        for halves in (rows, columns)
    )
    return row[:, None] * 2 ** len(columns) + column


def _averages(window: Tensor, windows: int, shift: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Averages over each window, shifted back, ``[L, windows]``; tokens of each, ``[windows]``."""
    member = F.one_hot(window.flatten(), windows)
    count = member.sum(0)
    average = member.to(torch.float32) / count.clamp(min=1)
    return _roll_tokens(average, window, shift), count


def _bilinear(height: int, width: int, level: int) -> Tensor:
    """``[L, Q]``: interpolates one value per (occupied) window over the grid."""
    side = 2**level
    unit = torch.eye(side * side, dtype=torch.float32).view(side * side, 1, side, side)
    for axis, length in ((2, height), (3, width)):
        occupied = [part for part in range(side) if _part_size(part, length, level)]
        unit = torch.cat([unit.narrow(axis, part, 1) for part in occupied], axis)
    upsample = F.interpolate(unit, size=(height, width), mode="bilinear")
    return upsample.view(side * side, -1).t()


def _part_size(part: int, length: int, level: int) -> int:
    """Positions in one of the ``2 ** level`` parts of an axis."""
    for i in reversed(range(level)):
        length = length // 2 if part >> i & 1 else (length + 1) // 2
    return length


def _roll_tokens(table: Tensor, grid: Tensor, amounts: tuple[int, ...]) -> Tensor:
    """Rows ``[L, n]`` of the tokens of ``grid [H, W]``, moved as the grid is rolled."""
    return table.view(*grid.shape, -1).roll(amounts, (0, 1)).flatten(0, 1)
