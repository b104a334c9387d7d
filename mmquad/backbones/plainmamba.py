"""PlainMamba: improving non-hierarchical Mamba in visual recognition.

Paper: Yang et al., BMVC 2024, arXiv:2403.17695. Release: ChenhongyiYang/PlainMamba, commit 0975a1d
(Apache-2.0). The published weights depend on two peculiarities of the released mixer, see
:class:`SnakeReading`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmquad.backbones.base import init_linear, named_setting
from mmquad.backbones.isotropic import IsotropicBackbone
from mmquad.layers import (
    DeepPatchEmbed,
    DepthwiseConv2d,
    MixerBlock,
    SelectiveSSM,
    SnakeMixer,
)
from mmquad.layers.patch import conv_channels_last
from mmquad.registry import MODELS

__all__ = ["PLAINMAMBA_ARCHS", "SNAKE_READINGS", "PlainMamba", "PlainMambaArch", "SnakeReading"]


class PlainMambaArch(NamedTuple):
    """Size of a PlainMamba.

    Attributes:
        dim: Channels C.
        depth: Layers.
        num_convs: 3x3 convolutions in the stem.
        conv_layers: Layers that end with a depthwise convolution.
        patch_size: Side of a patch.
        grid: Rows and columns of the learned positions.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        conv_size: Side of the mixers' depthwise convolutions.
    """

    dim: int
    depth: int = 24
    num_convs: int = 2
    conv_layers: tuple[int, ...] = ()
    patch_size: int = 16
    grid: tuple[int, int] = (14, 14)
    ssm_ratio: float = 2
    d_state: int = 16
    conv_size: int = 7


PLAINMAMBA_ARCHS = {
    "L1": PlainMambaArch(192, num_convs=1, conv_layers=(0,)),
    "L2": PlainMambaArch(384),
    "L3": PlainMambaArch(448, depth=36),
}


class SnakeReading(NamedTuple):
    """How mixers read their parameters; see :class:`mmquad.layers.SnakeMixer`."""

    double_dt_bias: bool = True
    raster_parameters: bool = True


SNAKE_READINGS = {
    "released": SnakeReading(),
    "paper": SnakeReading(double_dt_bias=False, raster_parameters=False),
}


class DepthwiseLayer(nn.Module):
    """3x3 depthwise convolution, batch norm and GELU, without residual: ``[B, H, W, C]`` to itself.

    Args:
        dim: C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv2d(dim, 3, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = conv_channels_last(self.conv, x).permute(0, 3, 1, 2)
        # Under autocast the convolution narrows the residual stream.
        return self.act(self.norm(y)).permute(0, 2, 3, 1).to(x.dtype)


@MODELS.register_module()
class PlainMamba(IsotropicBackbone):
    """Layers of snake scans on patches, at one width and stride 16; no class token.

    Every image size from 1 x 1 up works: positions are interpolated, and zeros are added below and
    to the right to fill patches.

    Args:
        arch: ``'L1'``, ``'L2'``, ``'L3'``, or a mapping with the fields of
            :class:`PlainMambaArch`.
        in_channels: Channels of the image.
        reading: ``'released'`` (for the published weights), ``'paper'``, or a mapping with the
            fields of :class:`SnakeReading`.
        out_indices: Layers, see :class:`IsotropicBackbone`.
        drop_path_rate: Stochastic depth of the last layer; it grows linearly from 0.
        frozen_stages: See :class:`IsotropicBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import PlainMamba
        >>> model = PlainMamba(dict(dim=16, depth=2), out_indices=(0, 1)).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 16, 5, 7), (1, 16, 5, 7)]
    """

    def __init__(
        self,
        arch: str | Mapping = "L1",
        *,
        in_channels: int = 3,
        reading: str | Mapping = "released",
        out_indices: Sequence[int] = (-1,),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        size = named_setting("arch", arch, PLAINMAMBA_ARCHS, PlainMambaArch)
        how = named_setting("reading", reading, SNAKE_READINGS, SnakeReading)
        inner_dim, dt_rank = int(size.dim * size.ssm_ratio), -(-size.dim // 16)

        def block(i: int, drop_path: float) -> nn.Module:
            mixer = SnakeMixer(
                size.dim,
                inner_dim,
                size.d_state,
                dt_rank,
                conv_size=size.conv_size,
                **how._asdict(),
            )
            layer = MixerBlock(size.dim, mixer, drop_path=drop_path)
            if i in size.conv_layers:
                return nn.Sequential(layer, DepthwiseLayer(size.dim))
            return layer

        super().__init__(
            stem=DeepPatchEmbed(in_channels, size.dim, size.patch_size, size.num_convs),
            block=block,
            norm=partial(nn.LayerNorm, eps=1e-6),
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
        self.arch, self.reading = size, how
        self.apply(_init_module)
        self._freeze()

    def settings(self) -> dict[str, Any]:
        """The reading: its name, or its fields if it has none."""
        how = self.reading
        named = next((k for k, v in SNAKE_READINGS.items() if v == how), how._asdict())
        return {"reading": named}

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if isinstance(block, nn.Sequential):
            # Recomputing a batch norm would update its statistics twice.
            layer, convolution = block
            return convolution(super().run_block(layer, x))
        return super().run_block(block, x)


def _init_module(module: nn.Module) -> None:
    """The release's, except that step sizes keep Mamba's: it sets their bias to 0, dt to 0.69."""
    init_linear(module)
    if isinstance(module, SelectiveSSM):
        nn.init.trunc_normal_(module.x_proj, std=0.02)
