"""Vim: efficient visual representation learning with bidirectional state space model.

Paper: Zhu et al., ICML 2024, arXiv:2401.09417. Release: hustvl/Vim, commit dd0358a (Apache-2.0).
Its "Add, Norm, Mixer" blocks are residual blocks cut at another place: the sum of a block is
formed at the start of the next one. Here each block forms its own; outputs are the same.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.isotropic import SequenceBackbone, stream_norm
from mmquad.layers import BidirectionalMixer, PatchEmbed
from mmquad.registry import MODELS

__all__ = ["VIM_ARCHS", "Vim", "VimArch"]


class VimArch(NamedTuple):
    """Size of a Vim.

    Attributes:
        dim: Channels C.
        depth: Layers.
        patch_size: Side of a patch.
        stride: Distance of patches; less than ``patch_size`` where they overlap.
        grid: Rows and columns of the learned positions.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        norm: Of the stream: ``'rms'`` or ``'layer'``.
        cover: Zeros are added below and to the right where patches would leave out pixels. Without,
            these pixels are left out, as in the release.
    """

    dim: int
    depth: int = 24
    patch_size: int = 16
    stride: int = 16
    grid: tuple[int, int] = (14, 14)
    ssm_ratio: float = 2
    d_state: int = 16
    norm: str = "rms"
    cover: bool = True


VIM_ARCHS = {
    "tiny": VimArch(192),
    "small": VimArch(384),
    "base": VimArch(768),
    "tiny-stride8": VimArch(192, stride=8, grid=(27, 27)),
    "small-stride8": VimArch(384, stride=8, grid=(27, 27)),
}


@MODELS.register_module()
class Vim(SequenceBackbone):
    """Bidirectional Mamba layers on patches, with a class token in the middle of the sequence.

    Every image size from 1 x 1 up works: positions are interpolated, and unless ``arch`` says
    otherwise zeros are added below and to the right where patches would leave out pixels.

    Args:
        arch: A name in ``VIM_ARCHS``, or a mapping with the fields of :class:`VimArch`.
        class_token: Have one. Weights with it load into a model without.
        out_type: ``'map'``: maps ``[B, C, h, w]`` of the patches; ``'class_token'``: the token,
            ``[B, C]``, for classifiers.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`; stages
            are layers.

    Example:
        >>> import torch
        >>> from mmquad.backbones import Vim
        >>> model = Vim(dict(dim=16, depth=2), out_indices=(0, 1)).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 16, 5, 7), (1, 16, 5, 7)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        class_token: bool = True,
        out_type: str = "map",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, VIM_ARCHS, VimArch)
        super().__init__(
            size.dim,
            size.depth,
            size.grid,
            class_token=class_token,
            out_type=out_type,
            **arguments,
        )
        self.arch: VimArch = size
        self.build()

    def make_stem(self) -> nn.Module:
        arch = self.arch
        return PatchEmbed(
            self.in_channels, arch.dim, arch.patch_size, arch.stride, cover=arch.cover
        )

    def make_norm(self, dim: int) -> nn.Module:
        return stream_norm(self.arch.norm, dim)

    def make_mixer(self, layer: int) -> nn.Module:
        del layer
        arch = self.arch
        return BidirectionalMixer(arch.dim, int(arch.dim * arch.ssm_ratio), arch.d_state)

    @torch.no_grad()
    def init_module(self, module: nn.Module) -> None:
        """The release's: LeCun normal patches, residual branches scaled down by their number."""
        if isinstance(module, PatchEmbed):
            # 0.88 is the standard deviation of a normal distribution cut at two of its own.
            std = module.conv.weight[0].numel() ** -0.5 / 0.87962566103423978
            nn.init.trunc_normal_(module.conv.weight, std=std, a=-2 * std, b=2 * std)
            if module.conv.bias is not None:
                nn.init.zeros_(module.conv.bias)
        elif isinstance(module, BidirectionalMixer):
            # The sum of ``depth`` branches shall not grow with their number (GPT-2, Mamba).
            module.out_proj.weight.div_(math.sqrt(self.arch.depth))
