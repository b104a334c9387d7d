"""From the weights of a search network to the directions of a config."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from mmquad.layers import DirectionSearch
from mmquad.scans import LocalScan

__all__ = [
    "DirectionLog",
    "SearchLayer",
    "read_direction_log",
    "search_layers",
    "top_directions",
    "write_searched_config",
]


class SearchLayer(NamedTuple):
    """A layer that searches: names of its K candidates, and their weights before the softmax."""

    directions: tuple[str, ...]
    alpha: Tensor  # [K]


def search_layers(model: nn.Module) -> list[SearchLayer]:
    """All layers of ``model`` that search, in order.

    Raises:
        ValueError: There is none.
    """
    layers = []
    for module in model.modules():
        scan, combine = getattr(module, "scan", None), getattr(module, "combine", None)
        if isinstance(scan, LocalScan) and isinstance(combine, DirectionSearch):
            layers.append(SearchLayer(scan.names, combine.alpha))
    if not layers:
        raise ValueError(
            f"expected a model with layers that search, got {type(model).__name__} without any: "
            "its backbone needs search=True in its arch, e.g. arch='tiny-search'"
        )
    return layers


@dataclass(frozen=True)
class DirectionLog:
    """How the weights of a search developed; T records, K candidates, one array per layer.

    Args:
        iterations: Training iterations at which the weights were logged, int, [T], ascending.
        directions: Names of the candidates, [K].
        alpha: Weights before the softmax, float, [T, layers, K].
    """

    iterations: np.ndarray
    directions: tuple[str, ...]
    alpha: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """Weights after the softmax, [T, layers, K]."""
        exponent = np.exp(self.alpha - self.alpha.max(-1, keepdims=True))
        return exponent / exponent.sum(-1, keepdims=True)


def read_direction_log(path: str | Path) -> DirectionLog:
    """Read what :class:`mmquad.hooks.DirectionLogHook` wrote.

    Args:
        path: ``directions.jsonl``, or the work directory that holds it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no record, or one that is no record of a search.
    """
    path = Path(path)
    path = path / "directions.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: expected the log of a search, which a config with "
            "custom_hooks=[dict(type='mmquad.DirectionLogHook')] writes to its work directory"
        )
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            alpha = np.array(record["alpha"], dtype=float)
            records.append((int(record["iteration"]), tuple(record["directions"]), alpha))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a JSON object with iteration, directions and alpha, got "
                f"{path}:{number}: {line[:80]!r}"
            ) from error
    if len({(names, alpha.shape) for _, names, alpha in records}) != 1:
        raise ValueError(f"expected records of one search network in {path}, got {len(records)}")
    iterations = np.array([iteration for iteration, _, _ in records])
    return DirectionLog(iterations, records[0][1], np.stack([alpha for _, _, alpha in records]))


def top_directions(log: DirectionLog, count: int = 4) -> list[str]:
    """The ``count`` directions of the largest weights in every layer, at the end of the search.

    Args:
        log: Of the search.
        count: Directions per layer.

    Returns:
        Names separated by spaces, in the order of the candidates, one string per layer: what
        ``directions=`` of the backbones takes.

    Raises:
        ValueError: There are fewer candidates.

    Example:
        >>> import numpy as np
        >>> log = DirectionLog(np.array([9]), ("h", "v", "w2"), np.array([[[0.1, -1.0, 2.0]]]))
        >>> top_directions(log, 2)
        ['h w2']
    """
    if not 1 <= count <= len(log.directions):
        raise ValueError(f"count must be in [1, {len(log.directions)}], got {count}")
    chosen = np.sort(np.argsort(-log.alpha[-1], axis=-1, kind="stable")[:, :count], axis=-1)
    return [" ".join(log.directions[k] for k in layer) for layer in chosen]


def write_searched_config(
    path: str | Path, base: str | Path, directions: Sequence[str], source: str
) -> Path:
    """Write a config that trains the model of ``base`` with these directions.

    Args:
        path: The config to write.
        base: A config of LocalVim or LocalVMamba with as many layers.
        directions: One string of names per layer.
        source: Where they come from, for the docstring.

    Returns:
        ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    inherited = os.path.relpath(base, path.parent)
    # Of `link/..` mmengine takes the folder of the link in one place, and that of its target in
    # another; where they differ only an absolute path is both.
    if (path.parent / inherited).resolve() != Path(base).resolve():
        inherited = os.path.abspath(base)
    lines = "".join(f'            "{names}",\n' for names in directions)
    path.write_text(
        f'"""{Path(base).stem}, with searched directions.\n\nFound by {source}.\n"""\n\n'
        f'_base_ = "{inherited}"\n\n'
        f"model = dict(\n    backbone=dict(\n        directions=[\n{lines}        ],\n    ),\n)\n"
    )
    return path
