"""How LocalMamba puts its directions together (arXiv:2403.09338, sections 3.3 and 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.norms import LayerNorm

__all__ = ["DirectionAttention", "DirectionSearch"]

_REDUCTION = 8


class DirectionAttention(nn.Module):
    """SCAttn: each direction's channels are weighed by what the whole map holds, then summed::

        g_k = sigmoid(W_2 gelu(W_1 mean_t LN(y_k) + b_1) + b_2)
        y   = sum_k g_k y_k

    The weights are shared by the directions. This is the channel branch, the one the released code
    has; its spatial branch is commented out there and the published weights do not contain it.

    Args:
        dim: Channels D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.reduce = nn.Linear(dim, max(dim // _REDUCTION, 1))
        self.act = nn.GELU()
        self.expand = nn.Linear(max(dim // _REDUCTION, 1), dim)

    def gates(self, ys: Tensor) -> Tensor:
        """``[B, K, L, D]`` -> the weight of every channel of a direction, ``[B, K, 1, D]``."""
        # Two narrow layers, as in squeeze-and-excitation, on the average of all tokens.
        context = self.norm(ys).mean(2, keepdim=True)
        return self.expand(self.act(self.reduce(context))).sigmoid()

    def forward(self, ys: Tensor) -> Tensor:
        """``[B, K, L, D] -> [B, L, D]``."""
        return (ys * self.gates(ys)).sum(1)


class DirectionSearch(DirectionAttention):
    """The same in the search network, where a softmax decides how much each direction counts::

        y = sum_k softmax(alpha)_k LN(g_k y_k)

    The norm has no parameters. ``alpha`` is trained like every other weight; the directions with
    the largest ones are the result of the search.

    Args:
        dim: Channels D.
        directions: Number of candidates K.
    """

    def __init__(self, dim: int, directions: int) -> None:
        super().__init__(dim)
        self.alpha = nn.Parameter(torch.empty(directions))
        nn.init.normal_(self.alpha, std=1e-3)  # almost equal shares to begin with

    def forward(self, ys: Tensor) -> Tensor:
        normed = F.layer_norm(ys * self.gates(ys), ys.shape[-1:])
        return torch.einsum("bkld,k->bld", normed, self.alpha.softmax(0).to(normed.dtype))
