"""LocalVim: Vim with windowed scans, searched directions and channel attention.

Paper: Huang et al., LocalMamba, arXiv:2403.09338. Release: hunto/LocalMamba, commit 75e5d1f
(Apache-2.0); docs/fidelity.md lists what differs. Its blocks form the residual sum at the start of
the next one and rotate both terms; here each block rotates the sum: outputs are the same.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.isotropic import SequenceBackbone, stream_norm
from mmquad.backbones.local_directions import (
    CANDIDATES,
    FIXED_DIRECTIONS,
    LOCALVIM_SEARCHED,
    layer_directions,
)
from mmquad.layers import (
    ClassToken,
    LayerNorm,
    LocalSequenceMixer,
    MixerBlock,
    PatchEmbed,
    SelectiveSSM,
    rotate_grid,
)
from mmquad.registry import MODELS
from mmquad.scans import LocalScan

__all__ = ["LOCALVIM_ARCHS", "LocalVim", "LocalVimArch"]


class LocalVimArch(NamedTuple):
    """Size of a LocalVim and its directions.

    Attributes:
        dim: Channels C.
        depth: Layers.
        directions: Names of the directions, separated by spaces: one string per layer, or a single
            one for all layers; see :class:`mmquad.scans.LocalScan`.
        class_token: Have one in the middle of the sequence, and no rotary embedding. Without, a
            rotary embedding turns the stream before every layer.
        patch_size: Side of a patch.
        grid: Rows and columns of the learned positions.
        rotary_side: Side of the grid whose angles the rotary embedding spans on any grid; None: no
            rotary embedding.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        search: The network of the direction search, which learns how much each direction counts.
        norm: Of the stream: ``'rms'``, or ``'layer'`` as the release's detectors have it.
    """

    dim: int
    depth: int = 20
    directions: Sequence[str] = FIXED_DIRECTIONS
    class_token: bool = False
    patch_size: int = 16
    grid: tuple[int, int] = (14, 14)
    rotary_side: int | None = 14
    ssm_ratio: float = 2
    d_state: int = 16
    search: bool = False
    norm: str = "rms"


LOCALVIM_ARCHS = {
    "tiny": LocalVimArch(192, directions=LOCALVIM_SEARCHED),
    "small": LocalVimArch(384, directions=LOCALVIM_SEARCHED),
    "tiny-middle-cls": LocalVimArch(192, directions=LOCALVIM_SEARCHED, class_token=True),
    "tiny-unsearched": LocalVimArch(192),
    "small-unsearched": LocalVimArch(384),
    "search": LocalVimArch(128, directions=CANDIDATES, search=True),
}


class LocalVimBlock(MixerBlock):
    """A :class:`MixerBlock` of the rotated x, on tokens ``[B, L, C]`` of a grid.

    Args:
        dim: C.
        mixer: Of tokens, height and width.
        mlp: After it, or None.
        drop_path: Probability of dropping each residual branch.
        norm: Makes the norm before each branch.
        rotary_side: See :func:`mmquad.layers.rotate_grid`; None: x is not rotated.
        rotary_grid: Its ``table_grid``.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None,
        drop_path: float,
        norm: Callable[[int], nn.Module],
        rotary_side: int | None,
        rotary_grid: tuple[int, int] | None,
    ) -> None:
        super().__init__(dim, mixer, mlp, drop_path, norm)
        self.rotary_side, self.rotary_grid = rotary_side, rotary_grid

    def forward(  # type: ignore[override]
        self, x: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """The stream after this block, and what its mixer added to it."""
        if self.rotary_side is not None:
            grid = x.unflatten(1, (height, width))  # [B, L, C] -> [B, H, W, C]
            x = rotate_grid(grid, self.rotary_side, self.rotary_grid).flatten(1, 2)
        branch = self.mixer(self.norm1(x), height, width)
        return self.add_mlp(x + self.drop_path(branch)), branch


@MODELS.register_module()
class LocalVim(SequenceBackbone):
    """Mamba layers on patches, each reading the grid in its own four directions.

    Every image size from 1 x 1 up works: learned positions are interpolated, rotary ones computed,
    and zeros are added below and to the right where patches would leave out pixels. Classifiers
    take the mean of the map, or the class token where there is one.

    Args:
        arch: A name in ``LOCALVIM_ARCHS``, or a mapping with the fields of :class:`LocalVimArch`.
        directions: Instead of those of the arch, in the same form.
        pad_windows: Fill up windows at the edge of the map, as the release does. False: they are
            smaller, and no position is empty.
        features: ``'stream'``: outputs are the residual stream under the norm of the arch.
            ``'mixer'``: what the layer's mixer adds to it, under LayerNorm, as the release's
            detectors have it.
        interpolate_rotary: On maps that do not have the grid of the arch, interpolate cosines and
            sines of its rotary embedding, as the release does, instead of computing theirs.
        out_type: ``'map'``: maps ``[B, C, h, w]`` of the patches; ``'class_token'``: the token,
            ``[B, C]``, for classifiers.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`; stages
            are layers.

    Example:
        >>> import torch
        >>> from mmquad.backbones import LocalVim
        >>> model = LocalVim(dict(dim=16, depth=2), directions="h v w2 w7", out_indices=(0, 1))
        >>> [tuple(y.shape) for y in model.eval()(torch.randn(1, 3, 65, 97))]
        [(1, 16, 5, 7), (1, 16, 5, 7)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        directions: str | Sequence[str] | None = None,
        pad_windows: bool = True,
        features: str = "stream",
        interpolate_rotary: bool = False,
        out_type: str = "map",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, LOCALVIM_ARCHS, LocalVimArch)
        if features not in ("stream", "mixer"):
            raise ValueError(f"features must be 'stream' or 'mixer', got {features!r}")
        super().__init__(
            size.dim,
            size.depth,
            size.grid,
            class_token=size.class_token,
            out_type=out_type,
            **arguments,
        )
        self.arch: LocalVimArch = size
        self.directions = layer_directions(directions or size.directions, size.depth)
        self.pad_windows, self.features = pad_windows, features
        self.interpolate_rotary = interpolate_rotary
        self.build()

    def make_stem(self) -> nn.Module:
        return PatchEmbed(self.in_channels, self.arch.dim, self.arch.patch_size)

    def make_norm(self, dim: int) -> nn.Module:
        return stream_norm(self.arch.norm, dim)

    def make_output_norm(self, stage: int) -> nn.Module:
        # What one mixer adds is not the stream, and has a norm of its own in the release.
        if self.features == "mixer":
            return LayerNorm(self.dims[stage])
        return super().make_output_norm(stage)

    def make_block(self, layer: int, drop_path: float) -> nn.Module:
        arch = self.arch
        # A class token has no place in the grid that rotary angles could follow.
        side = None if arch.class_token else arch.rotary_side
        grid = self.grid if self.interpolate_rotary else None
        mixer, mlp = self.make_mixer(layer), self.make_mlp(arch.dim)
        return LocalVimBlock(arch.dim, mixer, mlp, drop_path, self.make_norm, side, grid)

    def make_mixer(self, layer: int) -> nn.Module:
        """What mixes tokens in a layer: of ``[B, L, C]``, height and width of the grid."""
        arch = self.arch
        scan = LocalScan(self.directions[layer], self.pad_windows, arch.class_token)
        inner_dim = int(arch.dim * arch.ssm_ratio)
        return LocalSequenceMixer(arch.dim, inner_dim, arch.d_state, scan, arch.search)

    @torch.no_grad()
    def init_module(self, module: nn.Module) -> None:
        """The release's, but step sizes keep Mamba's: it sets their bias to 0, dt to 0.69."""
        if isinstance(module, LocalSequenceMixer):
            nn.init.trunc_normal_(module.in_proj.weight, std=0.02)
            # The sum of ``depth`` branches shall not grow with their number (GPT-2, Mamba).
            module.out_proj.weight.div_(math.sqrt(self.arch.depth))
            for linear in (module.combine.reduce, module.combine.expand):
                nn.init.trunc_normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)
        elif isinstance(module, SelectiveSSM):
            nn.init.trunc_normal_(module.x_proj, std=0.02)
        elif isinstance(module, ClassToken):
            nn.init.zeros_(module.token)

    def run_layer(self, i: int, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        x, branch = self.run_block(self.stages[i], x, height, width)
        return x, branch if self.features == "mixer" else x

    def settings(self) -> dict[str, Any]:
        """Directions of every layer, and whether windows are padded: no shape shows them."""
        return {
            "directions": [" ".join(names) for names in self.directions],
            "pad_windows": self.pad_windows,
        }
