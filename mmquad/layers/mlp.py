"""The two-layer perceptron of transformer blocks."""

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear, exact GELU, Linear over the last axis, ``[..., C] -> [..., C]``.

    Args:
        dim: C.
        hidden_dim: Width between the two layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
