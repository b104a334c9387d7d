"""The mixer and the block of Spatial-Mamba (arXiv:2410.15091, section 3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.block import MixerBlock
from mmquad.layers.depthwise import DepthwiseConv2d
from mmquad.layers.mixers import ScanMixer
from mmquad.layers.norms import LayerNorm
from mmquad.layers.patch import conv_channels_last
from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.scans import RasterScan

__all__ = ["PositionedBlock", "SpatialMixer", "StateFusion"]

DILATIONS = (1, 3, 5)


class StateFusion(nn.Module):
    """The states of neighbours are added up: three dilated depthwise 3x3 convolutions.

    With ``d = (1, 3, 5)`` and ``[.]`` the nearest token of the map, whose edge is repeated::

        f(i, j) = sum_m alpha_m sum_pq weight_m[p, q] h([i + d_m p], [j + d_m q])

    In float32 also under autocast: states are not normed.

    Args:
        dim: Channels D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(DILATIONS), dim, 3, 3))
        self.alpha = nn.Parameter(torch.ones(len(DILATIONS)))
        exempt_from_decay(self, "alpha")

    def forward(self, states: Tensor) -> Tensor:
        """``[B, H, W, D] -> [B, H, W, D]``."""
        reach, height, width = max(DILATIONS), states.shape[1], states.shape[2]
        with without_autocast(states.device):
            wide = F.pad(states.permute(0, 3, 1, 2), (reach,) * 4, mode="replicate")
            weight = self.weight.to(states.dtype) * self.alpha.to(states.dtype)[:, None, None, None]
            fused = None
            for kernel, dilation in zip(weight, DILATIONS, strict=True):
                start, more = reach - dilation, 2 * dilation  # the part that this dilation reaches
                part = wide[:, :, start : start + height + more, start : start + width + more]
                kernel = kernel[:, None]
                sums = F.conv2d(part, kernel, dilation=dilation, groups=states.shape[3])
                fused = sums if fused is None else fused + sums
        assert fused is not None
        return fused.permute(0, 2, 3, 1)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which autocast narrows nothing, where it is on."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class SpatialMixer(ScanMixer):
    """One scan, row by row, whose states are fused over the map before C reads them::

        h = scan(x),  y = C fuse(h) + D x

    Step and B are those of the tokens that were read, C is that of the token that reads.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
    """

    def __init__(self, dim: int, inner_dim: int, *, dt_rank: int | None = None) -> None:
        scan = RasterScan()
        super().__init__(dim, inner_dim, 1, scan, dt_rank=dt_rank, gate=True, conv_bias=True)
        self.fusion = StateFusion(inner_dim)

    def mix(self, x: Tensor) -> Tensor:
        height, width = grid = x.shape[1:3]
        tables = self.scan.tables(height, width, x.device)
        states, C = self.ssm.scan_states(x.flatten(1, 2), tables.order, tables.inverse)
        fused = self.fusion(states.unflatten(1, grid))
        return fused * C.unflatten(1, grid) + self.ssm.D_skip[0] * x


class PositionedBlock(MixerBlock):
    """A :class:`MixerBlock` with a depthwise 3x3 convolution added before each of its branches.

    Args:
        dim: C.
        mixer: Module ``[B, H, W, C] -> [B, H, W, C]``.
        mlp: Module ``[B, H, W, C] -> [B, H, W, C]``; None for a block without one.
        drop_path: Probability of dropping each residual branch; positions are not dropped.
        norm: Makes the norm before each branch.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__(dim, mixer, mlp, drop_path, norm)
        self.position1 = DepthwiseConv2d(dim, 3)
        if mlp is not None:
            self.position2 = DepthwiseConv2d(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + conv_channels_last(self.position1, x))

    def add_mlp(self, x: Tensor) -> Tensor:
        if self.mlp is not None:
            x = x + conv_channels_last(self.position2, x)
        return super().add_mlp(x)
