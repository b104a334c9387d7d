"""What a scan is: orders in which the tokens of a grid are read, as objects without parameters."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from mmquad.ops.tokens import gather_tokens, merge_tokens
from mmquad.scans.library import find_tables, known_scans

__all__ = [
    "EMPTY",
    "INDEX",
    "FixedScan",
    "OrderTables",
    "Scan",
    "ScanTables",
    "Shapes",
    "invert",
    "with_reverse",
]

EMPTY = -1  # in an order: no token at this position
INDEX = torch.int32  # of every table of tokens, positions or windows

CPU = torch.device("cpu")


class OrderTables(Protocol):
    """What the tables of every scan have."""

    @property
    def order(self) -> Tensor:
        """Token read at each position, ``[S, K, P]``; S sets of orders."""

    @property
    def inverse(self) -> Tensor:
        """Position at which each token is read, ``[S, K, L]``."""


Tables = TypeVar("Tables", bound=OrderTables)

# Of tables, in the sequence of their fields.
Shapes = list[tuple[tuple[int, ...], torch.dtype]]


class ScanTables(NamedTuple):
    """Tables of a fixed scan; see :mod:`mmquad.ops.tokens`."""

    order: Tensor  # [1, K, P], P >= L
    inverse: Tensor  # [1, K, L], positions in range(P)


def invert(order: Tensor, tokens: int) -> Tensor:
    """Position of every token, ``[..., P] -> [..., tokens]``; orders read each of them once."""
    positions = torch.arange(order.shape[-1], device=order.device).expand(order.shape)
    # One column too many takes the empty positions.
    inverse = order.new_empty(*order.shape[:-1], tokens + 1)
    return inverse.scatter_(-1, order % (tokens + 1), positions)[..., :tokens]


def with_reverse(order: Tensor) -> Tensor:
    """``[K, L] -> [2 K, L]``: the orders, then each of them backwards."""
    return torch.cat([order, order.flip(-1)])


class Scan(ABC, Generic[Tables]):
    """K orders to read the tokens of a grid in; a subclass is a frozen dataclass of literals.

    :meth:`shapes` must name what :meth:`build` gives, for symbolic sizes too: in a compiled graph
    it is all that is known of the tables.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        known_scans[f"{cls.__module__}.{cls.__qualname__}"] = cls

    @property
    @abstractmethod
    def directions(self) -> int:
        """Number of sequences K."""

    @abstractmethod
    def build(self, height: int, width: int) -> list[Tensor]:
        """The tables for a grid, without names, contiguous, on the CPU."""

    @abstractmethod
    def shapes(self, height: int, width: int) -> Shapes:
        """Shapes and dtypes of what :meth:`build` gives."""

    @abstractmethod
    def pack(self, tables: list[Tensor]) -> Tables:
        """What :meth:`build` gives, with names."""

    def fields(self) -> tuple:
        """The values that tell this scan from others of its class."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def tables(self, height: int, width: int, device: torch.device) -> Tables:
        """The tables for a grid, with names, built once and cached (:mod:`mmquad.scans.cache`)."""
        return find_tables(self, height, width, device)


@dataclasses.dataclass(frozen=True)
class FixedScan(Scan[ScanTables]):
    """A scan whose orders depend on the grid's size only.

    Every direction reads each of the L tokens once, for every H, W >= 1. Orders may be longer than
    L, the same length for all directions; positions beyond the tokens are ``EMPTY``.
    """

    @abstractmethod
    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        """Token read at each position, or ``EMPTY``, ``[K, P]``."""

    def num_tokens(self, height: int, width: int) -> int:
        """Number of tokens L: those of the grid, in row-major order, unless a scan adds some."""
        return height * width

    def num_positions(self, height: int, width: int) -> int:
        """Length P of the orders; no more than the tokens unless a scan has empty positions."""
        return self.num_tokens(height, width)

    def build(self, height: int, width: int) -> list[Tensor]:
        order = self.orders(height, width, CPU)[None]
        inverse = invert(order, self.num_tokens(height, width))
        return [order.to(INDEX).contiguous(), inverse.to(INDEX).contiguous()]

    def shapes(self, height: int, width: int) -> Shapes:
        order = (1, self.directions, self.num_positions(height, width))
        inverse = (1, self.directions, self.num_tokens(height, width))
        return [(order, INDEX), (inverse, INDEX)]

    def pack(self, tables: list[Tensor]) -> ScanTables:
        return ScanTables(*tables)

    def to_sequences(self, x: Tensor) -> Tensor:
        """Grid ``[B, H, W, D]`` -> sequences ``[B, P, K, D]``, zero at empty positions."""
        tables = self.tables(x.shape[1], x.shape[2], x.device)
        return gather_tokens(x.flatten(1, 2), tables.order, tables.inverse)

    def to_grid(self, y: Tensor, height: int, width: int) -> Tensor:
        """Sequences ``[B, P, K, D]`` -> grid ``[B, H, W, D]``, summed over directions."""
        tables = self.tables(height, width, y.device)
        return merge_tokens(y, tables.order, tables.inverse).unflatten(1, (height, width))
