"""The simple feature pyramid of ViTDet (Li et al., arXiv:2203.16527, section 3): one map to five.

mmdet has it among its projects only, which are not installed with it.
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmquad.registry import MODELS

__all__ = ["SimpleFeaturePyramid"]


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``[B, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps at strides 4, 8, 16, 32, 64, all made from the last map of a plain backbone.

    Args:
        in_channels: Channels C of the backbone's map, at stride 16.
        out_channels: Channels of every level.
        init_cfg: mmengine's.

    Example:
        >>> import torch
        >>> neck = SimpleFeaturePyramid(in_channels=16, out_channels=8)
        >>> [tuple(y.shape[2:]) for y in neck((torch.randn(1, 16, 5, 7),))]
        [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    _ChannelNorm(half, eps=1e-6),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),  # a row of tokens left over is not dropped
            ]
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, bias=False),
                _ChannelNorm(out_channels, eps=1e-6),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                _ChannelNorm(out_channels, eps=1e-6),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of a backbone, of which the last is used, -> five maps."""
        x = inputs[-1]
        maps = [level(scale(x)) for scale, level in zip(self.scales, self.levels, strict=True)]
        return (*maps, F.max_pool2d(maps[-1], 1, stride=2))
