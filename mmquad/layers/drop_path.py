"""Stochastic depth (Huang et al., arXiv:1603.09382)."""

from torch import Tensor, nn

__all__ = ["DropPath"]


class DropPath(nn.Module):
    """Drops a residual branch per sample while training, scaling the kept ones by 1 / (1 - p).

    Args:
        drop_prob: Probability p of dropping, in [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f"drop_prob must be in [0, 1), got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        # One number for each sample, [B, 1, ...]; divided by its mean, so that the sum keeps its.
        keep = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob}"
