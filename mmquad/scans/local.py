"""The directions LocalMamba chooses from (arXiv:2403.09338, fig. 3): rows, columns, windows.

Each of them forwards or backwards (``_flip``). A windowed direction visits windows of n x n tokens
in raster order and reads each row by row. Windows that stick out of the grid are filled up with
empty positions, at the bottom and the right: these stand *inside* the sequence, at the ends of the
rows of edge windows, and let the state decay.
"""

import dataclasses
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.scans.base import EMPTY, FixedScan

__all__ = ["LOCAL_DIRECTIONS", "LocalScan"]

# The candidates of the direction search, in the order of its weights (release: ALL_CHOICES).
LOCAL_DIRECTIONS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")

_NAME = re.compile(r"(h|v|w(?P<window>[1-9]\d*))(?P<flip>_flip)?")


@dataclasses.dataclass(frozen=True)
class LocalScan(FixedScan):
    """Any selection of row, column and window directions, in this order.

    Args:
        names: ``h`` (rows), ``v`` (columns), ``w<n>`` (windows of n x n tokens), each also with
            ``_flip``. Direction k of a layer's parameters is ``names[k]``.
        padded: Fill up edge windows as LocalMamba does. False: they are just smaller, so that every
            order is a permutation; on grids that n divides the two are the same.
        class_token: The tokens are the grid's with a class token in their middle, at ``H W // 2``.
            Every direction, flipped or not, reads it at that same position.

    Raises:
        ValueError: There is no name, or an unknown one.

    Example:
        >>> import torch
        >>> from mmquad.scans import LocalScan
        >>> LocalScan(("w2", "v_flip")).orders(2, 3, torch.device("cpu")).tolist()
        [[0, 1, 3, 4, 2, -1, 5, -1], [5, 2, 4, 1, 3, 0, -1, -1]]
    """

    names: tuple[str, ...]
    padded: bool = True
    class_token: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if not _NAME.fullmatch(name)]
        if unknown or not self.names:
            raise ValueError(
                "names must be at least one of h, v, w<n> (n >= 1), each also with _flip; got "
                f"{unknown or self.names}"
            )

    @property
    def directions(self) -> int:
        return len(self.names)

    def num_tokens(self, height: int, width: int) -> int:
        return height * width + int(self.class_token)

    def num_positions(self, height: int, width: int) -> int:
        longest = self.num_tokens(height, width)
        for side in self._padded_sides():
            rows, columns = -(-height // side), -(-width // side)
            # Of sizes that a compiler does not know yet, too.
            longest = torch.sym_max(longest, rows * columns * side**2 + int(self.class_token))
        return longest

    def _padded_sides(self) -> list[int]:
        """Sides of the windows that are filled up."""
        windows = [_NAME.fullmatch(name)["window"] for name in self.names]  # type: ignore[index]
        return sorted({int(window) for window in windows if window}) if self.padded else []

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        sequences = [self._sequence(name, height, width, device) for name in self.names]
        longest = self.num_positions(height, width)
        # Empty positions after the last token cost the scan nothing.
        return torch.stack([F.pad(s, (0, longest - len(s)), value=EMPTY) for s in sequences])

    def _sequence(self, name: str, height: int, width: int, device: torch.device) -> Tensor:
        """Tokens in one direction, ``[P]`` with its own P."""
        match = _NAME.fullmatch(name)
        assert match is not None
        grid = torch.arange(height * width, device=device).view(height, width)
        if match["window"]:
            side = int(match["window"])
            sequence = _padded_windows(grid, side) if self.padded else _windows(grid, side)
        else:
            sequence = (grid.t() if name.startswith("v") else grid).flatten()
        if match["flip"]:
            sequence = sequence.flip(0)
        if self.class_token:
            middle = height * width // 2
            sequence = sequence + (sequence >= middle)  # grid tokens behind it move up by one
            token = torch.full((1,), middle, device=device)
            sequence = torch.cat([sequence[:middle], token, sequence[middle:]])
        return sequence


def _padded_windows(grid: Tensor, side: int) -> Tensor:
    height, width = grid.shape
    full = F.pad(grid, (0, -width % side, 0, -height % side), value=EMPTY)
    # [H, W] -> [rows of windows, side, columns of windows, side]
    cut = full.unflatten(1, (-1, side)).unflatten(0, (-1, side))
    return cut.transpose(1, 2).flatten()


def _windows(grid: Tensor, side: int) -> Tensor:
    height, width = grid.shape
    # Sorted by window first and by token second: a stable order without padding.
    row = torch.arange(height, device=grid.device) // side
    column = torch.arange(width, device=grid.device) // side
    window = row[:, None] * -(-width // side) + column
    return (window * grid.numel() + grid).flatten().argsort()
