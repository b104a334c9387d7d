"""Learned absolute positions of a grid of tokens, and the class token among them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.ops.sizes import surely

__all__ = ["ClassToken", "GridPositions", "resize_grid"]


class GridPositions(nn.Module):
    """Adds one learned vector per place: ``[B, H, W, C] -> [B, H, W, C]``.

    On another grid than the learned one the vectors are interpolated, bicubically with pixels as
    areas (``align_corners=False``), as ViT and PlainMamba do.

    Args:
        dim: C.
        grid: Rows and columns of the learned grid.
    """

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, *grid, dim))
        nn.init.trunc_normal_(self.table, std=0.02)
        exempt_from_decay(self, "table")

    def forward(self, x: Tensor) -> Tensor:
        return x + resize_grid(self.table, x.shape[1], x.shape[2])


class ClassToken(nn.Module):
    """A learned token, with its own position, in the middle of the sequence (Vim).

    In the middle both directions of a scan reach it after half of the tokens.

    Args:
        dim: C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, dim))
        self.position = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)
        exempt_from_decay(self, "token", "position")

    def insert(self, x: Tensor) -> Tensor:
        """Tokens ``[B, L, C]`` -> ``[B, L + 1, C]``, the class token at ``L // 2``."""
        middle = x.shape[1] // 2
        token = (self.token + self.position).to(x.dtype).expand(x.shape[0], -1, -1)
        return torch.cat([x[:, :middle], token, x[:, middle:]], dim=1)

    @staticmethod
    def take(x: Tensor) -> Tensor:
        """The class token ``[B, C]`` of ``[B, L + 1, C]``."""
        return x[:, (x.shape[1] - 1) // 2]

    @staticmethod
    def remove(x: Tensor) -> Tensor:
        """The other tokens: ``[B, L + 1, C] -> [B, L, C]``."""
        middle = (x.shape[1] - 1) // 2  # of L + 1 tokens: the place insert gave it, L // 2
        return torch.cat([x[:, :middle], x[:, middle + 1 :]], dim=1)


def resize_grid(table: Tensor, height: int, width: int) -> Tensor:
    """``[1, h, w, C] -> [1, height, width, C]``, bicubic; unchanged where it fits."""
    rows, columns = table.shape[1:3]
    if surely(height == rows) and surely(width == columns):
        return table
    # Interpolation of 16-bit tables would round twice.
    dtype = torch.promote_types(table.dtype, torch.float32)
    planes = table.to(dtype).permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype)
