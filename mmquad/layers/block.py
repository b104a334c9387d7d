"""The residual block that all families share: a token mixer, and an MLP where they have one."""

from collections.abc import Callable

from torch import Tensor, nn

from mmquad.layers.drop_path import DropPath
from mmquad.layers.mlp import MLP

__all__ = ["MixerBlock"]


class MixerBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))`` if there is an MLP, on ``[B, ..., C]``.

    Args:
        dim: C.
        mixer: Module ``[B, ..., C] -> [B, ..., C]``.
        mlp_ratio: Hidden width of the MLP over C; 0 for a block without MLP.
        drop_path: Probability of dropping each residual branch.
        norm: Makes the norm before each branch.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp_ratio: float = 0.0,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.mixer = mixer
        if mlp_ratio:
            self.norm2 = norm(dim)
            self.mlp: MLP | None = MLP(dim, int(dim * mlp_ratio))
        else:
            self.mlp = None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        if self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x
