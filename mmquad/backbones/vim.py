"""Vim: efficient visual representation learning with bidirectional state space model.

Paper: Zhu et al., ICML 2024, arXiv:2401.09417. Release: hustvl/Vim, commit dd0358a (Apache-2.0).
Its "Add, Norm, Mixer" blocks are residual blocks cut at another place: the sum of a block is
formed at the start of the next one. Here each block forms its own; outputs are the same.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from mmquad.backbones.base import named_setting
from mmquad.backbones.isotropic import SequenceBackbone, stream_norm
from mmquad.layers import BidirectionalMixer, MixerBlock, PatchEmbed
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
        in_channels: Channels of the image.
        class_token: Have one. Weights with it load into a model without.
        out_type: ``'map'``: maps ``[B, C, h, w]`` of the patches; ``'class_token'``: the token,
            ``[B, C]``, for classifiers.
        out_indices: Layers, see :class:`IsotropicBackbone`.
        drop_path_rate: Stochastic depth of the last layer; it grows linearly from 0.
        frozen_stages: See :class:`IsotropicBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.

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
        in_channels: int = 3,
        class_token: bool = True,
        out_type: str = "map",
        out_indices: Sequence[int] = (-1,),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        size = named_setting("arch", arch, VIM_ARCHS, VimArch)
        norm = stream_norm(size.norm)
        inner_dim, dt_rank = int(size.dim * size.ssm_ratio), -(-size.dim // 16)

        def block(_: int, drop_path: float) -> MixerBlock:
            mixer = BidirectionalMixer(size.dim, inner_dim, size.d_state, dt_rank)
            return MixerBlock(size.dim, mixer, drop_path=drop_path, norm=norm)

        super().__init__(
            stem=PatchEmbed(in_channels, size.dim, size.patch_size, size.stride, cover=size.cover),
            block=block,
            norm=norm,
            dim=size.dim,
            depth=size.depth,
            grid=size.grid,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.arch = size
        self._set_class_token(class_token, out_type)
        self.apply(partial(_init_module, depth=size.depth))
        self._freeze()


@torch.no_grad()
def _init_module(module: nn.Module, depth: int) -> None:
    """The release's: LeCun normal patches, and residual branches scaled down by their number."""
    if isinstance(module, PatchEmbed):
        # 0.88 is the standard deviation of a normal distribution cut at two of its own.
        std = module.conv.weight[0].numel() ** -0.5 / 0.87962566103423978
        nn.init.trunc_normal_(module.conv.weight, std=std, a=-2 * std, b=2 * std)
        if module.conv.bias is not None:
            nn.init.zeros_(module.conv.bias)
    elif isinstance(module, BidirectionalMixer):
        module.out_proj.weight.div_(math.sqrt(depth))
