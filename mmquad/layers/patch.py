"""Convolutional stem and downsampling between stages, on channels-last grids ``[B, H, W, C]``."""

from torch import Tensor, nn

__all__ = ["ConvDownsample", "ConvStem", "conv_channels_last"]


def conv_channels_last(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` on ``[B, H, W, C]``; the permutes are views of channels-last memory."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2: image ``[B, 3, H, W]`` to ``[B, ceil(H/4), ceil(W/4), C]``.

    Args:
        in_channels: Channels of the image.
        dim: C.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(conv_channels_last(self.conv1, x)))
        return self.norm2(conv_channels_last(self.conv2, x))


class ConvDownsample(nn.Module):
    """3x3 convolution of stride 2 and LayerNorm: ``[B, H, W, c] -> [B, ceil(H/2), ceil(W/2), c']``.

    Args:
        dim: c.
        out_dim: c'.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_channels_last(self.conv, x))
