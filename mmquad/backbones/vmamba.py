"""VMamba: visual state space model.

Paper: Liu et al., NeurIPS 2024, arXiv:2401.10166. Release: MzeroMiko/VMamba, commit 2ed52ea (MIT).
The ``vanilla`` archs are its first version (``v0``), which most papers compare with; the others
are its current one (``v05_noz``). ``s2l5`` says: ssm_ratio 2, 5 blocks in the third stage.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import MLP, ConvDownsample, ConvStem, PatchEmbed, PatchMerging, ScanMixer
from mmquad.registry import MODELS
from mmquad.scans import CrossScan

__all__ = ["VMAMBA_ARCHS", "VMamba", "VMambaArch"]


class VMambaArch(NamedTuple):
    """Size of a VMamba. Width doubles per stage.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        mlp_ratio: Hidden width of the MLP over C; 0 for blocks without MLP.
        gate: Gated mixers.
        overlap: Overlapping 3 x 3 convolutions as stem and between stages. Without: 4 x 4 patches
            and Swin's patch merging.
        conv_bias: The depthwise convolutions have a bias.
    """

    dim: int
    depths: tuple[int, ...]
    ssm_ratio: float
    d_state: int = 1
    mlp_ratio: float = 4.0
    gate: bool = False
    overlap: bool = True
    conv_bias: bool = False


def _vanilla(dim: int, depths: tuple[int, ...]) -> VMambaArch:
    return VMambaArch(dim, depths, 2, 16, mlp_ratio=0, gate=True, overlap=False, conv_bias=True)


VMAMBA_ARCHS = {
    "vanilla-tiny": _vanilla(96, (2, 2, 9, 2)),
    "vanilla-small": _vanilla(96, (2, 2, 27, 2)),
    "vanilla-base": _vanilla(128, (2, 2, 27, 2)),
    "tiny-s2l5": VMambaArch(96, (2, 2, 5, 2), ssm_ratio=2),
    "small-s2l15": VMambaArch(96, (2, 2, 15, 2), ssm_ratio=2),
    "base-s2l15": VMambaArch(128, (2, 2, 15, 2), ssm_ratio=2),
    "tiny-s1l8": VMambaArch(96, (2, 2, 8, 2), ssm_ratio=1),
    "small-s1l20": VMambaArch(96, (2, 2, 20, 2), ssm_ratio=1),
    "base-s1l20": VMambaArch(128, (2, 2, 20, 2), ssm_ratio=1),
}


@MODELS.register_module()
class VMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32, all of cross scans.

    Every image size from 1 x 1 up works. The stem of the current version rounds sizes up, the
    patches of the vanilla one down (an image of 66 rows has 16 of them); stages round up.

    Args:
        arch: A name in ``VMAMBA_ARCHS``, or a mapping with the fields of :class:`VMambaArch`.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import VMamba
        >>> model = VMamba(dict(dim=8, depths=(1, 1, 1, 1), ssm_ratio=1)).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 17, 25), (1, 16, 9, 13), (1, 32, 5, 7), (1, 64, 3, 4)]
    """

    def __init__(
        self, arch: str | Mapping = "tiny-s1l8", **arguments: Unpack[BackboneArguments]
    ) -> None:
        size = named_setting("arch", arch, VMAMBA_ARCHS, VMambaArch)
        super().__init__(size.dim, size.depths, **arguments)
        self.arch: VMambaArch = size
        self.build()

    def make_stem(self) -> nn.Module:
        if self.arch.overlap:
            return ConvStem(self.in_channels, self.dims[0])
        # Not covering: the release's convolution has no padding, and weights know no other edge.
        return PatchEmbed(self.in_channels, self.dims[0], patch_size=4, norm=True, cover=False)

    def make_downsample(self, stage: int) -> nn.Module:
        # The current version trades Swin's merging of 2 x 2 tokens for convolutions that overlap.
        kind = ConvDownsample if self.arch.overlap else PatchMerging
        return kind(self.dims[stage - 1], self.dims[stage])

    def make_mlp(self, dim: int) -> nn.Module | None:
        return MLP(dim, int(dim * self.arch.mlp_ratio)) if self.arch.mlp_ratio else None

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        del index
        dim, arch = self.dims[stage], self.arch
        # Rows and columns in every block: unlike the windowed families, no two blocks differ.
        return ScanMixer(
            dim,
            int(dim * arch.ssm_ratio),
            arch.d_state,
            CrossScan(),
            gate=arch.gate,
            conv_bias=arch.conv_bias,
        )
