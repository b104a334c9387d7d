"""PlainMamba: improving non-hierarchical Mamba in visual recognition.

Paper: Yang et al., BMVC 2024, arXiv:2403.17695. Release: ChenhongyiYang/PlainMamba, commit 0975a1d
(Apache-2.0). The published weights depend on two peculiarities of the released mixer, see
:class:`SnakeReading`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.isotropic import IsotropicBackbone
from mmquad.layers import (
    BatchNorm2d,
    DeepPatchEmbed,
    DepthwiseConv2d,
    LayerNorm,
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
        self.norm = BatchNorm2d(dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        # The residual stream is float32, also where the weights are 16-bit.
        y = conv_channels_last(self.conv, x.to(next(self.parameters()).dtype))
        y = self.act(self.norm(y.permute(0, 3, 1, 2)))  # batch norms want [B, C, H, W]
        # Under autocast, and in 16-bit models, the convolution narrows the stream.
        return y.permute(0, 2, 3, 1).to(x.dtype)


@MODELS.register_module()
class PlainMamba(IsotropicBackbone):
    """Layers of snake scans on patches, at one width and stride 16; no class token.

    Every image size from 1 x 1 up works: positions are interpolated, and zeros are added below and
    to the right to fill patches.

    Args:
        arch: ``'L1'``, ``'L2'``, ``'L3'``, or a mapping with the fields of
            :class:`PlainMambaArch`.
        reading: ``'released'`` (for the published weights), ``'paper'``, or a mapping with the
            fields of :class:`SnakeReading`.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`; stages
            are layers.

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
        reading: str | Mapping = "released",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, PLAINMAMBA_ARCHS, PlainMambaArch)
        super().__init__(size.dim, size.depth, size.grid, **arguments)
        self.arch: PlainMambaArch = size
        self.reading: SnakeReading = named_setting("reading", reading, SNAKE_READINGS, SnakeReading)
        self.build()

    def make_stem(self) -> nn.Module:
        arch = self.arch
        return DeepPatchEmbed(self.in_channels, arch.dim, arch.patch_size, arch.num_convs)

    def make_output_norm(self, stage: int) -> nn.Module:
        return LayerNorm(self.dims[stage], eps=1e-6)

    def make_block(self, layer: int, drop_path: float) -> nn.Module:
        block = super().make_block(layer, drop_path)
        # These layers end with a convolution without residual; in L1 it is the first alone.
        if layer in self.arch.conv_layers:
            return nn.Sequential(block, DepthwiseLayer(self.arch.dim))
        return block

    def make_mixer(self, layer: int) -> nn.Module:
        del layer
        arch = self.arch
        return SnakeMixer(
            arch.dim,
            int(arch.dim * arch.ssm_ratio),
            arch.d_state,
            conv_size=arch.conv_size,
            double_dt_bias=self.reading.double_dt_bias,
            raster_parameters=self.reading.raster_parameters,
        )

    def init_module(self, module: nn.Module) -> None:
        """The release's, but step sizes keep Mamba's: it sets their bias to 0, dt to 0.69."""
        super().init_module(module)
        if isinstance(module, SelectiveSSM):
            nn.init.trunc_normal_(module.x_proj, std=0.02)

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
