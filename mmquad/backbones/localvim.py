"""LocalVim: Vim with windowed scans, searched directions and channel attention.

Paper: Huang et al., LocalMamba, arXiv:2403.09338. Release: hunto/LocalMamba, commit 75e5d1f
(Apache-2.0); docs/fidelity.md lists what differs. Its blocks form the residual sum at the start of
the next one and rotate both terms; here each block rotates the sum: outputs are the same.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmquad.backbones.base import named_setting
from mmquad.backbones.isotropic import SequenceBackbone, stream_norm
from mmquad.backbones.local_directions import (
    CANDIDATES,
    FIXED_DIRECTIONS,
    LOCALVIM_SEARCHED,
    layer_directions,
)
from mmquad.layers import ClassToken, DropPath, LocalSequenceMixer, PatchEmbed, rotate_grid
from mmquad.layers.selective_ssm import SelectiveSSM
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


class LocalVimBlock(nn.Module):
    """``x + mixer(norm(x))`` of the rotated x, on tokens ``[B, L, C]`` of a grid.

    Args:
        mixer: Of tokens, height and width.
        norm: Before it.
        drop_path: Probability of dropping the mixer's branch.
        rotary_side: See :func:`mmquad.layers.rotate_grid`; None: x is not rotated.
        rotary_grid: Its ``table_grid``.
    """

    def __init__(
        self,
        mixer: nn.Module,
        norm: nn.Module,
        drop_path: float,
        rotary_side: int | None,
        rotary_grid: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.norm1 = norm
        self.mixer = mixer
        self.drop_path = DropPath(drop_path)
        self.rotary_side, self.rotary_grid = rotary_side, rotary_grid

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The stream after this block, and what its mixer added to it."""
        if self.rotary_side is not None:
            grid = x.unflatten(1, (height, width))
            x = rotate_grid(grid, self.rotary_side, self.rotary_grid).flatten(1, 2)
        branch = self.mixer(self.norm1(x), height, width)
        return x + self.drop_path(branch), branch


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
        in_channels: Channels of the image.
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
        in_channels: int = 3,
        out_type: str = "map",
        out_indices: Sequence[int] = (-1,),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        size = named_setting("arch", arch, LOCALVIM_ARCHS, LocalVimArch)
        if features not in ("stream", "mixer"):
            raise ValueError(f"features must be 'stream' or 'mixer', got {features!r}")
        names = layer_directions(directions or size.directions, size.depth)
        norm = stream_norm(size.norm)
        inner_dim, dt_rank = int(size.dim * size.ssm_ratio), -(-size.dim // 16)
        rotary_side = None if size.class_token else size.rotary_side
        rotary_grid = tuple(size.grid) if interpolate_rotary else None

        def block(i: int, drop_path: float) -> LocalVimBlock:
            scan = LocalScan(names[i], pad_windows, size.class_token)
            mixer = LocalSequenceMixer(
                size.dim, inner_dim, size.d_state, dt_rank, scan, size.search
            )
            return LocalVimBlock(mixer, norm(size.dim), drop_path, rotary_side, rotary_grid)

        super().__init__(
            stem=PatchEmbed(in_channels, size.dim, size.patch_size),
            block=block,
            norm=norm if features == "stream" else nn.LayerNorm,
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
        self.arch, self.directions, self.pad_windows = size, names, pad_windows
        self.features = features
        self._set_class_token(size.class_token, out_type)
        self.apply(partial(_init_module, depth=size.depth))
        self._freeze()

    def run_layer(self, i: int, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        x, branch = self.run_block(self.stages[i], x, height, width)
        return x, branch if self.features == "mixer" else x

    def settings(self) -> dict[str, Any]:
        """Directions of every layer, and whether windows are padded: no shape shows them."""
        return {
            "directions": [" ".join(names) for names in self.directions],
            "pad_windows": self.pad_windows,
        }


@torch.no_grad()
def _init_module(module: nn.Module, depth: int) -> None:
    """The release's, except that step sizes keep Mamba's: it sets their bias to 0, dt to 0.69."""
    if isinstance(module, LocalSequenceMixer):
        nn.init.trunc_normal_(module.in_proj.weight, std=0.02)
        module.out_proj.weight.div_(math.sqrt(depth))
        for linear in (module.combine.reduce, module.combine.expand):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
    elif isinstance(module, SelectiveSSM):
        nn.init.trunc_normal_(module.x_proj, std=0.02)
    elif isinstance(module, ClassToken):
        nn.init.zeros_(module.token)
