"""The tables of the grids seen so far: kept, shared, bounded, and out of every graph.

A table is a function of a scan and a grid's size. It is computed once, by plain PyTorch on the CPU,
and copied to the device that asks for it. What is computed is not to be seen by whatever surrounds
the layer that needs it: see :func:`apart`, and :mod:`mmquad.scans.library` for compiled graphs.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["TableCache", "TableSource", "apart", "table_cache"]

Result = TypeVar("Result")

_DEFAULT_MEGABYTES = 256


class TableSource(Protocol):
    """What a cache asks of a scan, which is also its key: equal scans share tables."""

    def build(self, height: int, width: int) -> list[Tensor]:
        """Its tables for a grid, in a fixed sequence, contiguous, on the CPU."""

    def pack(self, tables: list[Tensor]) -> Any:
        """The same with names."""


class _Key(NamedTuple):
    scan: TableSource
    height: int
    width: int
    device: torch.device


@dataclass
class _Entry:
    tables: list[Tensor]
    packed: Any
    bytes: int
    captured: bool = False  # a CUDA graph reads them


class TableCache:
    """Tables of at most ``max_bytes`` on all devices together; those not used for longest go first.

    Any thread and, on GPUs, any stream may ask. Copies made by ``fork`` work; nothing of it is part
    of a model, so models are pickled and copied without tables.

    Args:
        max_bytes: The bound; 0 keeps none, so that every layer builds its own at every call.

    Raises:
        ValueError: The bound is negative.

    Example:
        >>> from mmquad.scans import table_cache
        >>> table_cache.max_bytes = 256 * 2**20  # of the process; that many at first
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.max_bytes = max_bytes
        if hasattr(os, "register_at_fork"):
            # Another thread may hold the lock at the moment of a fork, and does not exist after it.
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    @property
    def max_bytes(self) -> int:
        """The bound; lowering it drops tables at once."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be at least 0, got {max_bytes}")
        with self._lock:
            self._max_bytes = max_bytes
            self._shrink()

    @property
    def bytes(self) -> int:
        """Memory of all tables that are kept."""
        return self._bytes

    def __len__(self) -> int:
        """Number of grids and scans whose tables are kept."""
        return len(self._entries)

    def clear(self) -> None:
        """Drop everything, except what a CUDA graph reads."""
        bound, self.max_bytes = self.max_bytes, 0
        self.max_bytes = bound

    def lookup(self, scan: TableSource, height: int, width: int, device: torch.device) -> Any:
        """``scan.pack`` of its tables on this device.

        Raises:
            RuntimeError: They would have to be built while a CUDA graph is being captured.
        """
        return self._find(scan, height, width, device).packed

    def copies(
        self, scan: TableSource, height: int, width: int, device: torch.device
    ) -> list[Tensor]:
        """The same as unnamed copies, for those who may overwrite what they are given."""
        return [table.clone() for table in self._find(scan, height, width, device).tables]

    def _find(self, scan: TableSource, height: int, width: int, device: torch.device) -> _Entry:
        if device.type not in ("cpu", "meta") and device.index is None:
            device = torch.empty(0, device=device).device  # "cuda" is the current one
        key, capturing = _Key(scan, height, width, device), _capturing(device)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                # A graph reads this memory at every replay: it must stay.
                entry.captured |= capturing
        if entry is None:
            if capturing:
                raise RuntimeError(
                    f"the tables of {scan} for a grid of {height} x {width} do not exist yet and "
                    "cannot be built while a CUDA graph is being captured: run the model once on "
                    "an image of this size before capturing"
                )
            # Without the lock: others go on. Two who build the same both get the first's.
            entry = self._insert(key, apart(lambda: self._build(key)))
        if not capturing:
            _use_on_current_stream(entry.tables, device)
        return entry

    @staticmethod
    def _build(key: _Key) -> _Entry:
        # Tables are complete before anybody sees them: a copy from ordinary memory returns when the
        # data is there. So other streams need not wait for the one that happened to ask first, as
        # they would for tables that kernels of that stream compute.
        tables = [table.to(key.device) for table in key.scan.build(key.height, key.width)]
        size = sum(table.untyped_storage().nbytes() for table in tables)
        return _Entry(tables, key.scan.pack(tables), size)

    def _insert(self, key: _Key, entry: _Entry) -> _Entry:
        with self._lock:
            present = self._entries.get(key)
            if present is not None:
                return present
            self._entries[key] = entry
            self._bytes += entry.bytes
            self._shrink()
        return entry

    def _shrink(self) -> None:
        """Drop the longest unused tables until the bound is kept; whoever uses them keeps them."""
        for key in [key for key, entry in self._entries.items() if not entry.captured]:
            if self._bytes <= self._max_bytes:
                return
            self._bytes -= self._entries.pop(key).bytes


def apart(function: Callable[[], Result]) -> Result:
    """``function()``, untouched by the modes of PyTorch that surround the call.

    Inference mode, a trace of ``torch.jit``, fake tensors, transforms of ``torch.func``, default
    devices and modes that count operations are all states of a thread. A tensor made under one of
    them is not fit for a cache: training cannot save a tensor of inference mode, one of a transform
    is dead after it, one of a trace belongs to its graph. In a new thread there is none of them.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _use_on_current_stream(tables: list[Tensor], device: torch.device) -> None:
    """Tell the allocator which stream reads: dropped tables stay until its kernels have run."""
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device)
        if stream != torch.cuda.default_stream(device):  # on which threads copy tables
            for table in tables:
                table.record_stream(stream)


def _bytes_from_environment() -> int:
    text = os.environ.get("MMQUAD_TABLE_CACHE_MB", str(_DEFAULT_MEGABYTES))
    if not text.isdigit():
        raise ValueError(
            f"MMQUAD_TABLE_CACHE_MB must be a whole number of megabytes, at least 0, got {text!r}"
        )
    return int(text) * 2**20


table_cache = TableCache(_bytes_from_environment())
