"""Which token each direction reads at each position, and the sizes everything else follows from.

Tables are int32: ``order[s, k, p]`` is the token that direction k reads at position p and
``inverse[s, k, t]`` the position at which it reads token t. One set (S = 1) serves every sample
alike; it may have more positions than tokens, P > L, and -1 where a direction reads nothing. Two
sets (S = 2, coarse and fine) are chosen between per sample and window; both give a window the same
positions, so that the mixture is a permutation again (:mod:`mmquad.ops.tokens`), and P = L. Users
may give int64, which :func:`narrow_tables` converts before any backend sees it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "COARSE",
    "FINE",
    "Order",
    "Sizes",
    "mixed_inverse",
    "mixed_order",
    "narrow_tables",
    "sizes_of",
]

COARSE, FINE = 0, 1


class Order(NamedTuple):
    """The tables of a layer; ``window`` and ``weight`` exist where there are two sets."""

    order: Tensor  # [S, K, P], -1 at empty positions
    inverse: Tensor  # [S, K, L]
    window: Tensor | None  # [L], window of every token
    weight: Tensor | None  # [B, Q], 1 for windows read in the fine order, 0 for the others


class Sizes(NamedTuple):
    """The letters of docs/notation.md, and the positions P of the longest direction."""

    batch: int
    length: int
    positions: int
    channels: int
    directions: int
    states: int
    ranks: int

    @property
    def columns(self) -> int:
        """Columns of z that belong to one direction: step size, B, C."""
        return self.ranks + 2 * self.states

    @property
    def padded(self) -> bool:
        """Whether there are empty positions: every direction reads every token exactly once."""
        return self.positions > self.length


def sizes_of(x: Tensor, dt_weight: Tensor, A: Tensor, order: Tensor) -> Sizes:
    """Read all sizes off four tensors."""
    batch, length, channels = x.shape
    positions, states, ranks = order.shape[2], A.shape[2], dt_weight.shape[2]
    return Sizes(batch, length, positions, channels, A.shape[0], states, ranks)


def narrow_tables(
    order: Tensor, inverse: Tensor, window: Tensor | None, weight: Tensor | None
) -> Order:
    """The tables of a call in int32, as every backend takes them."""
    narrow_window = None if window is None else window.to(torch.int32)
    return Order(order.to(torch.int32), inverse.to(torch.int32), narrow_window, weight)


def mixed_order(tables: Order) -> Tensor:
    """The order each sample reads in, ``[1 or B, K, P]``."""
    order, _, window, weight = tables
    if window is None or weight is None:
        return order
    chosen = (weight > 0.5)[:, window[order[FINE]]]
    return torch.where(chosen, order[FINE], order[COARSE])


def mixed_inverse(tables: Order) -> Tensor:
    """The inverse of :func:`mixed_order`."""
    _, inverse, window, weight = tables
    if window is None or weight is None:
        return inverse
    chosen = (weight > 0.5)[:, None, window]
    return torch.where(chosen, inverse[FINE], inverse[COARSE])
