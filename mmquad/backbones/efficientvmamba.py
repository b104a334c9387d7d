"""EfficientVMamba: atrous selective scans, then inverted residuals.

Paper: Pei, Huang and Xu, AAAI 2025, arXiv:2403.09977. Release: TerryPei/EfficientVMamba, commit
0bc5ee2.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import AtrousMixer, DualBlock, InvertedResidual, PatchEmbed, PatchMerging
from mmquad.registry import MODELS

__all__ = ["EFFICIENTVMAMBA_ARCHS", "EfficientVMamba", "EfficientVMambaArch"]


class EfficientVMambaArch(NamedTuple):
    """Size of an EfficientVMamba. Width doubles per stage.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        scan_stages: Stages with scans; those after them have inverted residuals.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
    """

    dim: int
    depths: tuple[int, ...]
    scan_stages: int = 2
    ssm_ratio: float = 2.0
    d_state: int = 16


# The paper's table says 96 channels for S; the model that was trained has 64.
EFFICIENTVMAMBA_ARCHS = {
    "tiny": EfficientVMambaArch(48, (2, 2, 4, 2)),
    "small": EfficientVMambaArch(64, (2, 2, 4, 2)),
    "base": EfficientVMambaArch(96, (2, 2, 9, 2)),
}


@MODELS.register_module()
class EfficientVMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32, the first two of scans, the others of convolutions.

    Every image size from 1 x 1 up works. Patches round sizes down (an image of 66 rows has 16 of
    them), stages up.

    Args:
        arch: A name in ``EFFICIENTVMAMBA_ARCHS``, or a mapping with the fields of
            :class:`EfficientVMambaArch`.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import EfficientVMamba
        >>> model = EfficientVMamba(dict(dim=8, depths=(1, 1, 1, 1))).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 16, 24), (1, 16, 8, 12), (1, 32, 4, 6), (1, 64, 2, 3)]
    """

    def __init__(
        self, arch: str | Mapping = "tiny", **arguments: Unpack[BackboneArguments]
    ) -> None:
        size = named_setting("arch", arch, EFFICIENTVMAMBA_ARCHS, EfficientVMambaArch)
        super().__init__(size.dim, size.depths, **arguments)
        self.arch: EfficientVMambaArch = size
        self.build()

    def make_stem(self) -> nn.Module:
        return PatchEmbed(self.in_channels, self.dims[0], patch_size=4, norm=True, cover=False)

    def make_downsample(self, stage: int) -> nn.Module:
        return PatchMerging(self.dims[stage - 1], self.dims[stage])

    def make_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        dim = self.dims[stage]
        if stage >= self.arch.scan_stages:
            return InvertedResidual(dim, drop_path)
        mixer, mlp = self.make_mixer(stage, index), self.make_mlp(dim)
        return DualBlock(dim, mixer, mlp, drop_path, self.make_norm)

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        del index
        dim, arch = self.dims[stage], self.arch
        return AtrousMixer(dim, int(dim * arch.ssm_ratio), arch.d_state)
