"""The residual block that all families share: a token mixer, and an MLP where they have one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmquad.layers.drop_path import DropPath
from mmquad.layers.norms import LayerNorm
from mmquad.layers.weight_decay import exempt_from_decay

__all__ = ["LayerScale", "MixerBlock"]


class LayerScale(nn.Module):
    """A learned factor for every channel of a branch (Touvron et al., arXiv:2103.17239).

    Args:
        dim: C.
        value: What all factors begin with.
    """

    def __init__(self, dim: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), value))
        exempt_from_decay(self, "weight")

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C] -> [..., C]``."""
        return x * self.weight


class MixerBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))`` if there is an MLP, on ``[B, ..., C]``.

    Args:
        dim: C.
        mixer: Module ``[B, ..., C] -> [B, ..., C]``.
        mlp: Module ``[B, ..., C] -> [B, ..., C]``; None for a block without one.
        drop_path: Probability of dropping each residual branch.
        norm: Makes the norm before each branch.
        layer_scale: Multiply each branch by a vector that begins so; None: do not.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = LayerNorm,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.mixer = mixer
        if mlp is not None:
            self.norm2 = norm(dim)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        if mlp is not None:
            self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        # Pre-norm: the stream itself is never normed, so gradients reach every block unscaled.
        return self.add_mlp(x + self.drop_path(self.scale1(self.mixer(self.norm1(x)))))

    def add_mlp(self, x: Tensor) -> Tensor:
        """``x + mlp(norm(x))``; x itself where there is no MLP."""
        if self.mlp is not None:
            x = x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
        return x
