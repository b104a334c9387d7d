"""A residual block of convolutions: MambaVision's first two stages."""

from torch import Tensor, nn

from mmquad.layers.drop_path import DropPath
from mmquad.layers.norms import MapBatchNorm
from mmquad.layers.patch import conv_channels_last

__all__ = ["ConvBlock"]


class ConvBlock(nn.Module):
    """``x + BN(conv(GELU(BN(conv(x)))))`` with 3x3 convolutions, ``[B, H, W, C] -> [B, H, W, C]``.

    The GELU is the one by tanh.

    Args:
        dim: C.
        drop_path: Probability of dropping the branch.
    """

    def __init__(self, dim: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm1 = MapBatchNorm(dim)
        self.act = nn.GELU(approximate="tanh")
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = MapBatchNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(conv_channels_last(self.conv1, x)))
        return x + self.drop_path(self.norm2(conv_channels_last(self.conv2, y)))
