"""Backbones of one width and one resolution: what Vim, LocalVim and PlainMamba share."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmquad.backbones.base import VisionBackbone
from mmquad.layers import ClassToken, GridPositions, exempt_from_decay
from mmquad.layers.positions import resize_grid

__all__ = ["IsotropicBackbone", "SequenceBackbone", "stream_norm"]


def _rms_norm(dim: int) -> nn.RMSNorm:
    """Mamba's norm: weight only."""
    norm = nn.RMSNorm(dim, eps=1e-5)
    exempt_from_decay(norm, "weight")  # mmengine does not know it for a norm
    return norm


_NORMS: dict[str, Callable[[int], nn.Module]] = {"rms": _rms_norm, "layer": nn.LayerNorm}


def stream_norm(name: str) -> Callable[[int], nn.Module]:
    """Makes the norm of an architecture: ``'rms'`` or ``'layer'``.

    Raises:
        ValueError: There is no norm of that name.
    """
    if name not in _NORMS:
        raise ValueError(f"arch.norm must be one of {list(_NORMS)}, got {name!r}")
    return _NORMS[name]


class IsotropicBackbone(VisionBackbone):
    """Patches with learned positions, then ``depth`` residual blocks on all of them.

    Each layer is a stage: ``out_indices`` and ``frozen_stages`` count layers, and the outputs are
    the residual stream after a layer under a norm of their own; ``norm{depth - 1}`` is the final
    norm of the classifiers. ``frozen_stages=0`` freezes stem and positions. The stream is float32
    at least, also under autocast: dozens of layers add up in it.

    A subclass turns the map of patches into what its blocks take (:meth:`to_tokens`) and back
    (:meth:`to_output`).

    Args:
        stem: Image ``[B, c, H, W]`` to patches ``[B, h, w, dim]``.
        block: Makes a block from its index and its drop path.
        norm: Makes an output norm.
        dim: Channels C.
        depth: Number of layers.
        grid: Rows and columns of the learned positions; they are interpolated elsewhere.
        drop_path_rate: Stochastic depth of the last layer; it grows linearly from 0.
        out_indices: See :class:`VisionBackbone`.
        frozen_stages: See :class:`VisionBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        block: Callable[[int, float], nn.Module],
        norm: Callable[[int], nn.Module],
        dim: int,
        depth: int,
        grid: tuple[int, int],
        drop_path_rate: float,
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(
            [dim] * depth, [1] * depth, out_indices, frozen_stages, norm_eval, with_cp, init_cfg
        )
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.stem = stem
        self.positions = GridPositions(dim, grid)
        self.stages = nn.ModuleList(block(i, rates[i]) for i in range(self.num_built_stages))
        self.downsamples = nn.ModuleList()
        for i in self.out_indices:
            self.add_module(f"norm{i}", norm(dim))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``[B, in_channels, H, W]`` -> one ``[B, C, h, w]`` per out index."""
        patches = self.positions(self.stem(image))
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
            adapted["positions.table"] = resize_grid(table, *self.positions.table.shape[1:3])
        return adapted


class SequenceBackbone(IsotropicBackbone):
    """Blocks that take a sequence of tokens, perhaps with a class token in its middle.

    A subclass calls :meth:`_set_class_token` in its constructor.
    """

    class_token: ClassToken | None
    out_type: str

    def _set_class_token(self, class_token: bool, out_type: str) -> None:
        if out_type not in ("map", "class_token"):
            raise ValueError(f"out_type must be 'map' or 'class_token', got {out_type!r}")
        if out_type == "class_token" and not class_token:
            raise ValueError("out_type='class_token' needs class_token=True")
        self.class_token = ClassToken(self.out_channels[-1]) if class_token else None
        self.out_type = out_type

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
