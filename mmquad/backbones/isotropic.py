"""Backbones of one width and one resolution: what Vim, LocalVim and PlainMamba share."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments
from mmquad.backbones.base import VisionBackbone
from mmquad.layers import ClassToken, GridPositions, LayerNorm, MixerBlock, RMSNorm
from mmquad.layers.positions import resize_grid
from mmquad.layers.weight_decay import exempt_from_decay

__all__ = ["IsotropicBackbone", "SequenceBackbone", "stream_norm"]


def stream_norm(name: str, dim: int) -> nn.Module:
    """The norm of an architecture over ``dim`` channels: ``'rms'`` or ``'layer'``.

    Raises:
        ValueError: There is no norm of that name.
    """
    if name == "layer":
        return LayerNorm(dim)
    if name != "rms":
        raise ValueError(f"arch.norm must be one of ['rms', 'layer'], got {name!r}")
    norm = RMSNorm(dim, eps=1e-5)  # Mamba's norm: weight only
    exempt_from_decay(norm, "weight")  # mmengine does not know it for a norm
    return norm


class IsotropicBackbone(VisionBackbone):
    """Patches with learned positions, then ``depth`` residual blocks on all of them.

    Each layer is a stage: ``out_indices`` and ``frozen_stages`` count layers, and the outputs are
    the residual stream after a layer under a norm of their own; ``norm{depth - 1}`` is the final
    norm of the classifiers. ``frozen_stages=0`` freezes stem and positions. The stream is float32
    at least, also under autocast and in 16-bit models: dozens of layers add up in it.

    A family has :meth:`make_stem` and :meth:`make_mixer`, and turns the map of patches into what
    its blocks take (:meth:`to_tokens`) and back (:meth:`to_output`).

    Args:
        dim: Channels C.
        depth: Number of layers.
        grid: Rows and columns of the learned positions; they are interpolated elsewhere.
        **arguments: See :class:`BackboneArguments`.
    """

    def __init__(
        self, dim: int, depth: int, grid: Sequence[int], **arguments: Unpack[BackboneArguments]
    ) -> None:
        super().__init__([dim] * depth, [1] * depth, **arguments)
        rows, columns = grid
        self.dim, self.grid = dim, (rows, columns)

    @property
    def default_out_indices(self) -> Sequence[int]:
        """What ``out_indices`` are unless given: the last layer."""
        return (-1,)

    def build_embedding(self) -> None:
        """Make stem and positions."""
        super().build_embedding()
        self.positions = GridPositions(self.dim, self.grid)

    def make_downsample(self, stage: int) -> None:
        """Nothing: one resolution."""

    def make_stage(self, stage: int, drop_paths: Sequence[float]) -> nn.Module:
        return self.make_block(stage, *drop_paths)

    def make_block(self, layer: int, drop_path: float) -> nn.Module:
        """The block of a layer: a mixer, and an MLP if a subclass has one."""
        mixer, mlp = self.make_mixer(layer), self.make_mlp(self.dim)
        return MixerBlock(self.dim, mixer, mlp, drop_path, self.make_norm)

    def make_mixer(self, layer: int) -> nn.Module:
        """What mixes tokens in a layer, in the shape of :meth:`to_tokens`."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``[B, in_channels, H, W]`` -> one ``[B, C, h, w]`` per out index."""
        patches = self.positions(self.stem(image))  # [B, h, w, C]
        grid = patches.shape[1:3]
        x = self.to_tokens(patches)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        outputs = []
        for i in range(self.num_built_stages):
            x, feature = self.run_layer(i, x, *grid)
            if i in self.out_indices:
                outputs.append(self.to_output(getattr(self, f"norm{i}")(feature), *grid))
        return tuple(outputs)

    def run_layer(self, i: int, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The stream after layer i, and the feature of that layer: here the stream itself."""
        x = self.run_block(self.stages[i], x)
        return x, x

    def to_tokens(self, patches: Tensor) -> Tensor:
        """What the blocks take, from patches ``[B, h, w, C]``; the patches themselves here."""
        return patches

    def to_output(self, x: Tensor, height: int, width: int) -> Tensor:
        """A map ``[B, C, height, width]``, from what the blocks give."""
        # Necks and CPU RoIAlign expect plain NCHW memory.
        return x.reshape(x.shape[0], height, width, x.shape[-1]).permute(0, 3, 1, 2).contiguous()

    def embedding_parts(self) -> list[nn.Module]:
        return [self.stem, self.positions]

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Resize positions learned on another grid."""
        adapted = dict(state_dict)
        table = adapted.get("positions.table")
        if table is not None and table.ndim == 4:
            adapted["positions.table"] = resize_grid(table, *self.grid)
        return adapted


class SequenceBackbone(IsotropicBackbone):
    """Blocks that take a sequence of tokens, perhaps with a class token in its middle.

    Args:
        dim: Channels C.
        depth: Number of layers.
        grid: Rows and columns of the learned positions.
        class_token: Have one.
        out_type: ``'map'``: maps ``[B, C, h, w]`` of the patches; ``'class_token'``: the token,
            ``[B, C]``, for classifiers.
        **arguments: See :class:`BackboneArguments`.
    """

    class_token: ClassToken | None

    def __init__(
        self,
        dim: int,
        depth: int,
        grid: Sequence[int],
        *,
        class_token: bool,
        out_type: str,
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        super().__init__(dim, depth, grid, **arguments)
        if out_type not in ("map", "class_token"):
            raise ValueError(f"out_type must be 'map' or 'class_token', got {out_type!r}")
        if out_type == "class_token" and not class_token:
            raise ValueError("out_type='class_token' needs class_token=True")
        self.has_class_token, self.out_type = class_token, out_type

    def build_rest(self) -> None:
        """Make the class token, where there is one."""
        self.class_token = ClassToken(self.dim) if self.has_class_token else None

    def to_tokens(self, patches: Tensor) -> Tensor:
        """``[B, h, w, C]`` -> ``[B, L, C]``, with the class token in the middle."""
        x = patches.flatten(1, 2)
        return x if self.class_token is None else self.class_token.insert(x)

    def to_output(self, x: Tensor, height: int, width: int) -> Tensor:
        if self.class_token is not None:
            if self.out_type == "class_token":
                return self.class_token.take(x)
            x = self.class_token.remove(x)
        return super().to_output(x, height, width)

    def embedding_parts(self) -> list[nn.Module]:
        parts = super().embedding_parts()
        return parts if self.class_token is None else [*parts, self.class_token]

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Resize positions; leave the class token out where this model has none."""
        adapted = super().adapt_pretrained(state_dict)
        if self.class_token is None:
            adapted = {k: v for k, v in adapted.items() if not k.startswith("class_token.")}
        return adapted
