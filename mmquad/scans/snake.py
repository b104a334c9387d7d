"""The continuous scan of PlainMamba (arXiv:2403.17695, fig. 2): every step is to a neighbour."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from mmquad.scans.base import CPU, INDEX, FixedScan, Shapes, with_reverse

__all__ = ["NUM_MOVES", "SnakeScan", "SnakeTables"]

# How a token is reached: it is the first, or by a move to the right, left, up or down.
NUM_MOVES = 5


class SnakeTables(NamedTuple):
    """Tables of the snake scan; see :mod:`mmquad.ops.tokens`."""

    order: Tensor  # [1, K, L]
    inverse: Tensor  # [1, K, L]
    moves: Tensor  # [K, L]: see SnakeScan.moves


@dataclasses.dataclass(frozen=True)
class SnakeScan(FixedScan):
    """Directions: rows to and fro, the reverse, columns down and up, the reverse.

    Example:
        >>> import torch
        >>> from mmquad.scans import SnakeScan
        >>> SnakeScan().orders(2, 2, torch.device("cpu")).tolist()
        [[0, 1, 3, 2], [2, 3, 1, 0], [0, 2, 3, 1], [1, 3, 2, 0]]
    """

    @property
    def directions(self) -> int:
        return 4

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        grid = torch.arange(height * width, device=device).view(height, width)
        rows, columns = _to_and_fro(grid), _to_and_fro(grid.t())
        # Each order is followed by its reverse, as PlainMamba numbers them.
        return with_reverse(torch.stack([rows, columns]))[[0, 2, 1, 3]]

    def moves(self, height: int, width: int, device: torch.device) -> Tensor:
        """How each position is reached, ``[K, L]``: 0 first, 1 right, 2 left, 3 up, 4 down."""
        order = self.orders(height, width, device)
        row, column = order // width, order % width
        right, down = column.diff(dim=-1), row.diff(dim=-1)
        moves = 1 * (right == 1) + 2 * (right == -1) + 3 * (down == -1) + 4 * (down == 1)
        return torch.nn.functional.pad(moves, (1, 0))

    def build(self, height: int, width: int) -> list[Tensor]:
        return [*super().build(height, width), self.moves(height, width, CPU).to(INDEX)]

    def shapes(self, height: int, width: int) -> Shapes:
        moves = (self.directions, height * width)
        return [*super().shapes(height, width), (moves, INDEX)]

    def pack(self, tables: list[Tensor]) -> SnakeTables:  # type: ignore[override]
        return SnakeTables(*tables)

    def tables(self, height: int, width: int, device: torch.device) -> SnakeTables:  # type: ignore[override]
        return super().tables(height, width, device)  # type: ignore[return-value]


def _to_and_fro(grid: Tensor) -> Tensor:
    """Rows of ``[rows, columns]``, every second one backwards, as one sequence."""
    odd = torch.arange(grid.shape[0], device=grid.device)[:, None] % 2 == 1
    return torch.where(odd, grid.flip(1), grid).flatten()
