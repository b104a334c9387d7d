"""What a scan is: orders in which the tokens of a grid are read, as objects without parameters."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from mmquad.ops.tokens import gather_tokens, merge_tokens

__all__ = [
    "EMPTY",
    "FixedScan",
    "OrderTables",
    "Scan",
    "ScanTables",
    "cached_tables",
    "invert",
    "with_reverse",
]

EMPTY = -1  # in an order: no token at this position

Tables = TypeVar("Tables", bound=tuple)

# Tables of the shapes seen so far, oldest first. Detectors see hundreds of shapes; a table of a
# 200 x 336 grid takes a few MB, so the number kept is bounded.
_CACHE_SIZE = 256
_cache: dict[tuple, tuple] = {}


def cached_tables(
    scan: object, height: int, width: int, device: torch.device, build: Callable[..., Tables]
) -> Tables:
    """``build(height, width, device)``, computed once per scan, grid and device.

    Nothing is cached or read while tracing or under a fake tensor mode, where a cached real tensor
    would not be accepted and a fake one must not outlive the mode.
    """
    if torch.compiler.is_compiling() or type(torch.empty(0)) is not torch.Tensor:
        return build(height, width, device)
    key = (scan, height, width, device)
    if key not in _cache:
        while len(_cache) >= _CACHE_SIZE:
            del _cache[next(iter(_cache))]
        # An evaluation under inference mode must not leave tables that training cannot save.
        with torch.inference_mode(False):
            _cache[key] = build(height, width, device)
    return _cache[key]  # type: ignore[return-value]


def invert(index: Tensor) -> Tensor:
    """Inverse of the permutations along the last axis."""
    return index.argsort(-1)


def with_reverse(order: Tensor) -> Tensor:
    """``[K, L] -> [2 K, L]``: the orders, then each of them backwards."""
    return torch.cat([order, order.flip(-1)])


class OrderTables(Protocol):
    """What the tables of every scan have."""

    @property
    def order(self) -> Tensor:
        """Token read at each position, ``[S, K, P]``; S sets of orders."""

    @property
    def inverse(self) -> Tensor:
        """Position at which each token is read, ``[S, K, L]``."""


class Scan(Protocol):
    """What a mixer needs of a scan: K orders in which the tokens of a grid are read.

    :class:`FixedScan` and :class:`mmquad.scans.QuadScan` have it; any frozen object of this form
    will do.
    """

    @property
    def directions(self) -> int:
        """Number of sequences K."""

    def tables(self, height: int, width: int, device: torch.device) -> OrderTables:
        """The orders for a grid of this height and width, and their inverses."""


class ScanTables(NamedTuple):
    """Tables of a fixed scan; see :mod:`mmquad.ops.tokens`."""

    order: Tensor  # [1, K, P], P >= L
    inverse: Tensor  # [1, K, L], positions in range(P)


@dataclasses.dataclass(frozen=True)
class FixedScan(ABC):
    """A scan whose orders depend on the grid's size only.

    Every direction reads each of the L tokens once, for every H, W >= 1. Orders may be longer than
    L, the same length for all directions; positions beyond the tokens are ``EMPTY``.
    """

    @property
    @abstractmethod
    def directions(self) -> int:
        """Number of sequences K."""

    @abstractmethod
    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        """Token read at each position, or ``EMPTY``, ``[K, P]``."""

    def num_tokens(self, height: int, width: int) -> int:
        """Number of tokens L: those of the grid, in row-major order, unless a scan adds some."""
        return height * width

    def tables(self, height: int, width: int, device: torch.device) -> ScanTables:
        """The orders and their inverses, cached."""
        return cached_tables(self, height, width, device, self._build)

    def _build(self, height: int, width: int, device: torch.device) -> ScanTables:
        order = self.orders(height, width, device)[None]
        # Sorted, empty positions come first, and every direction has as many.
        empty = order.shape[-1] - self.num_tokens(height, width)
        return ScanTables(order, invert(order)[..., empty:].contiguous())

    def to_sequences(self, x: Tensor) -> Tensor:
        """Grid ``[B, H, W, D]`` -> sequences ``[B, P, K, D]``, zero at empty positions."""
        tables = self.tables(x.shape[1], x.shape[2], x.device)
        return gather_tokens(x.flatten(1, 2), tables.order, tables.inverse)

    def to_grid(self, y: Tensor, height: int, width: int) -> Tensor:
        """Sequences ``[B, P, K, D]`` -> grid ``[B, H, W, D]``, summed over directions."""
        tables = self.tables(height, width, y.device)
        return merge_tokens(y, tables.order, tables.inverse).unflatten(1, (height, width))
