"""The simple feature pyramid of ViTDet (Li et al., arXiv:2203.16527, section 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.registry import MODELS

__all__ = ["SimpleFeaturePyramid"]


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of ``[B, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """Maps of strides 4, 8, 16, 32 and 64 from the last map of a backbone of stride 16.

    Deconvolutions and max pooling change the resolution; a 1x1 and a 3x3 convolution, each with
    LayerNorm, follow on every level. The last level is every second pixel of the one before.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of every level.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        self.resize = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                # Maps of a single row or column stay as they are.
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The last of ``maps [B, C, H, W]`` -> five levels ``[B, out_channels, ., .]``."""
        levels = [
            conv(resize(maps[-1])).contiguous()
            for resize, conv in zip(self.resize, self.convs, strict=True)
        ]
        return (*levels, F.max_pool2d(levels[-1], 1, stride=2))
