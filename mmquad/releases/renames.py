"""Renaming the entries of a release by rules, refusing what no rule knows."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError

__all__ = [
    "Rule",
    "UnknownNamesError",
    "by_direction",
    "grid_of",
    "layers_of",
    "ratio_of",
    "renamed",
    "shape_of",
]

Rule = tuple[str, str]  # a pattern for the whole name, and its replacement


class UnknownNamesError(CheckpointMismatchError, KeyError):
    """Names of a checkpoint are not those of the release."""

    __str__ = RuntimeError.__str__  # KeyError's would quote the message


def renamed(
    state_dict: Mapping[str, Tensor], rules: Sequence[Rule], release: str
) -> Iterator[tuple[str, str, Tensor]]:
    """``(new name, released name, value)`` of every entry; the first rule that matches applies.

    Raises:
        UnknownNamesError: No rule matches a name.
        CheckpointMismatchError: Two entries get the same name.
    """
    names = {name: _apply(name, rules) for name in state_dict}
    unknown = [name for name, new_name in names.items() if new_name is None]
    if unknown:
        raise UnknownNamesError(
            f"{unknown[0]!r} is not a name of the released {release} weights, nor are "
            f"{len(unknown) - 1} others{''.join(f', {name!r}' for name in unknown[1:8])}"
        )
    seen: dict[str, str] = {}
    for name, new_name in names.items():
        assert new_name is not None
        if new_name in seen:
            raise CheckpointMismatchError(
                f"{name!r} and {seen[new_name]!r} both become {new_name!r}"
            )
        seen[new_name] = name
        yield new_name, name, state_dict[name]


def _apply(name: str, rules: Sequence[Rule]) -> str | None:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def by_direction(name: str, value: Tensor, state_dict: Mapping[str, Tensor]) -> Tensor:
    """``[K D, ...]`` -> ``[K, D, ...]``; K is that of the ``dt_projs_bias`` beside it.

    Raises:
        CheckpointMismatchError: The directions cannot be told.
    """
    bias_name = re.sub(r"[^.]+$", "dt_projs_bias", name)
    bias = state_dict.get(bias_name)
    if bias is None or bias.ndim != 2 or value.ndim == 0 or value.shape[0] != bias.numel():
        raise CheckpointMismatchError(
            f"expected {name} [K D, ...] beside {bias_name} [K, D], got {tuple(value.shape)} and "
            f"{None if bias is None else tuple(bias.shape)}"
        )
    return value.unflatten(0, (bias.shape[0], -1))


def layers_of(names: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that the group of ``pattern`` matches; 0 if none does."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return 1 + max(found, default=-1)


def grid_of(name: str, tokens: int, grid: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns of ``tokens`` positions: ``grid``, or a square as in all published weights.

    Raises:
        CheckpointMismatchError: They do not form that grid.
    """
    rows, columns = grid or (round(tokens**0.5),) * 2
    if rows * columns != tokens or tokens == 0:
        expected = (
            f"{rows} x {columns} positions of patches" if grid else "a square number of positions"
        )
        raise CheckpointMismatchError(f"expected {name} to hold {expected}, got {tokens}")
    return rows, columns


def ratio_of(width: int, dim: int) -> float:
    """The ratio r of a width to a dimension, such that ``int(dim * r)`` is that width.

    Example:
        >>> int(112 * (115 / 112)), int(112 * ratio_of(115, 112))
        (114, 115)
    """
    ratio = width / dim
    return ratio if int(dim * ratio) == width else math.nextafter(ratio, math.inf)


def shape_of(
    state_dict: Mapping[str, Tensor], name: str, ndim: int, release: str
) -> tuple[int, ...]:
    """Shape of the entry ``name``, which a model cannot be without.

    Raises:
        CheckpointMismatchError: It is missing, or does not have ``ndim`` axes of at least 1.
    """
    if name not in state_dict:
        raise CheckpointMismatchError(f"incomplete weights of {release}: {name} is missing")
    shape = tuple(state_dict[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointMismatchError(
            f"damaged weights of {release}: expected {name} with {ndim} axes, got shape {shape}"
        )
    return shape
