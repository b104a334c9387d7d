"""Tables in graphs: one op that looks them up, so that no graph holds the building of a table.

``mmquad::scan_tables`` names the scan by a string, since operators take nothing else that could
tell one from another in a graph, or in a file of one that another process loads.
"""

import ast
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmquad.scans.cache import apart, table_cache

if TYPE_CHECKING:
    from mmquad.scans.base import Scan

__all__ = ["constant_tables", "describe", "find_tables", "known_scans", "scan_named"]

# Classes of scans by module and name; each adds itself.
known_scans: dict[str, type["Scan"]] = {}

_state = threading.local()


def find_tables(scan: "Scan", height: int, width: int, device: torch.device) -> Any:
    """Tables of a scan, cached; in a graph, what the op there will find.

    Raises:
        RuntimeError: See :meth:`mmquad.scans.cache.TableCache.lookup`.
    """
    if torch.compiler.is_compiling():
        constants = getattr(_state, "constants", None)
        if constants is not None and not torch.compiler.is_dynamo_compiling():
            return constants(scan, height, width, device)
        return scan.pack(scan_tables_op(describe(scan), height, width, device))
    if type(torch.empty(0)) is not Tensor:  # fake tensors
        return scan.pack(scan_tables_op(describe(scan), height, width, device))
    if torch.jit.is_tracing():
        height, width = int(height), int(width)  # tensors there
    return table_cache.lookup(scan, height, width, device)


@contextlib.contextmanager
def constant_tables(index: torch.dtype) -> Iterator[None]:
    """In here, ``torch.export`` (not strict, sizes fixed) takes the tables into its graph as data.

    Such a graph needs no op of this package to have them.

    Args:
        index: Dtype of tokens, positions and windows: other runtimes index by int64 alone.
    """

    @functools.cache  # layers of a graph share their constants
    def constants(scan: "Scan", height: int, width: int, device: torch.device) -> Any:
        def build() -> list[Tensor]:
            tables = [table.to(device) for table in scan.build(height, width)]
            return [t.to(index) if t.dtype == torch.int32 else t for t in tables]

        return scan.pack(apart(build))

    _state.constants = constants
    try:
        yield
    finally:
        _state.constants = None


def describe(scan: "Scan") -> str:
    """Its class and the values of its fields: ``'mmquad.scans.snake.SnakeScan()'``."""
    # Of what torch.compile can trace; repr is not.
    kind = type(scan)
    return f"{kind.__module__}.{kind.__qualname__}{scan.fields()!r}"


def scan_named(description: str) -> "Scan":
    """The inverse of :func:`describe`.

    Raises:
        ValueError: No scan of that class has been defined in this process.
    """
    name, bracket, fields = description.partition("(")
    if name not in known_scans:
        raise ValueError(
            f"expected the name of a scan, one of {sorted(known_scans)}, got {name!r}: import the "
            "module that defines it"
        )
    return known_scans[name](*ast.literal_eval(bracket + fields))


@torch.library.custom_op("mmquad::scan_tables", mutates_args=())
def scan_tables_op(scan: str, height: int, width: int, device: torch.device) -> list[Tensor]:
    """The tables of a scan, given by :func:`describe`, for a grid of this size."""
    # Copies: a compiler may write its own results into memory that it believes it owns.
    return table_cache.copies(scan_named(scan), height, width, device)


@scan_tables_op.register_fake
def _scan_tables_fake(scan: str, height: int, width: int, device: torch.device) -> list[Tensor]:
    return [
        torch.empty(shape, dtype=dtype, device=device)
        for shape, dtype in scan_named(scan).shapes(height, width)
    ]
