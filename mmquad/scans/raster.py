"""One sequence, row by row: what reads tokens in a single direction."""

import dataclasses

import torch
from torch import Tensor

from mmquad.scans.base import FixedScan

__all__ = ["RasterScan"]


@dataclasses.dataclass(frozen=True)
class RasterScan(FixedScan):
    """One direction, row-major from the top left.

    Example:
        >>> import torch
        >>> from mmquad.scans import RasterScan
        >>> RasterScan().orders(2, 2, torch.device("cpu")).tolist()
        [[0, 1, 2, 3]]
    """

    @property
    def directions(self) -> int:
        return 1

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        return torch.arange(height * width, device=device)[None]
