"""The cross scan of VMamba (arXiv:2401.10166, fig. 4): rows and columns, forwards and backwards."""

import dataclasses

import torch
from torch import Tensor

from mmquad.scans.base import FixedScan, with_reverse

__all__ = ["CrossScan"]


@dataclasses.dataclass(frozen=True)
class CrossScan(FixedScan):
    """Directions: row-major, column-major, row-major reversed, column-major reversed.

    Example:
        >>> import torch
        >>> from mmquad.scans import CrossScan
        >>> CrossScan().orders(2, 2, torch.device("cpu")).tolist()
        [[0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0], [3, 1, 2, 0]]
    """

    @property
    def directions(self) -> int:
        return 4

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        grid = torch.arange(height * width, device=device).view(height, width)
        return with_reverse(torch.stack([grid.flatten(), grid.t().flatten()]))
