"""Spatial-Mamba: structure-aware state fusion.

Paper: Xiao et al., ICLR 2025, arXiv:2410.15091. Release: EdwardChasel/Spatial-Mamba, commit 71221eb
(Apache-2.0).
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import MLP, ExpandedDownsample, PositionedBlock, ResidualStem, SpatialMixer
from mmquad.registry import MODELS

__all__ = ["SPATIALMAMBA_ARCHS", "SpatialMamba", "SpatialMambaArch"]


class SpatialMambaArch(NamedTuple):
    """Size of a Spatial-Mamba. Width doubles per stage; there is one state per channel.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        ssm_ratio: Inner channels D of a mixer over C.
        mlp_ratio: Hidden width of the MLP over C.
    """

    dim: int
    depths: tuple[int, ...]
    ssm_ratio: float = 2.0
    mlp_ratio: float = 4.0


SPATIALMAMBA_ARCHS = {
    "tiny": SpatialMambaArch(64, (2, 4, 8, 4)),
    "small": SpatialMambaArch(64, (2, 4, 21, 5)),
    "base": SpatialMambaArch(96, (2, 4, 21, 5)),
}


@MODELS.register_module()
class SpatialMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32: one scan per block, whose states are fused over the map.

    Every image size from 1 x 1 up works; sizes round up.

    Args:
        arch: A name in ``SPATIALMAMBA_ARCHS``, or a mapping with the fields of
            :class:`SpatialMambaArch`.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import SpatialMamba
        >>> model = SpatialMamba(dict(dim=8, depths=(1, 1, 1, 1))).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 17, 25), (1, 16, 9, 13), (1, 32, 5, 7), (1, 64, 3, 4)]
    """

    def __init__(
        self, arch: str | Mapping = "tiny", **arguments: Unpack[BackboneArguments]
    ) -> None:
        size = named_setting("arch", arch, SPATIALMAMBA_ARCHS, SpatialMambaArch)
        super().__init__(size.dim, size.depths, **arguments)
        self.arch: SpatialMambaArch = size
        self.build()

    def make_stem(self) -> nn.Module:
        return ResidualStem(self.in_channels, self.dims[0])

    def make_downsample(self, stage: int) -> nn.Module:
        return ExpandedDownsample(self.dims[stage - 1], self.dims[stage])

    def make_mlp(self, dim: int) -> nn.Module:
        return MLP(dim, int(dim * self.arch.mlp_ratio))

    def make_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        dim = self.dims[stage]
        mixer, mlp = self.make_mixer(stage, index), self.make_mlp(dim)
        return PositionedBlock(dim, mixer, mlp, drop_path, self.make_norm)

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        del index
        return SpatialMixer(self.dims[stage], int(self.dims[stage] * self.arch.ssm_ratio))
