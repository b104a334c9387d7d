"""The residual block that all families share: a token mixer, and an MLP where they have one."""

from collections.abc import Callable

from torch import Tensor, nn

from mmquad.layers.drop_path import DropPath
from mmquad.layers.norms import LayerNorm

__all__ = ["MixerBlock"]


class MixerBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))`` if there is an MLP, on ``[B, ..., C]``.

    Args:
        dim: C.
        mixer: Module ``[B, ..., C] -> [B, ..., C]``.
        mlp: Module ``[B, ..., C] -> [B, ..., C]``; None for a block without one.
        drop_path: Probability of dropping each residual branch.
        norm: Makes the norm before each branch.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.mixer = mixer
        if mlp is not None:
            self.norm2 = norm(dim)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        # Pre-norm: the stream itself is never normed, so gradients reach every block unscaled.
        return self.add_mlp(x + self.drop_path(self.mixer(self.norm1(x))))

    def add_mlp(self, x: Tensor) -> Tensor:
        """``x + mlp(norm(x))``; x itself where there is no MLP."""
        if self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x
