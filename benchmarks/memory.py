"""How much memory a computation needs at its peak, beyond what was there before it.

On a GPU, PyTorch's allocator counts. On a CPU nobody does, so the computation runs in a process of
its own, where Linux records the peak of the resident memory: that includes scratch memory of
compiled code, which a count of tensors would miss. glibc is told to take every large block from the
system and to return it when it is freed; else freed memory would be used again and not be seen.
"""

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["fresh_process", "peak_bytes"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Bytes that one call of ``function`` adds at its peak; results count, inputs do not.

    On a CPU, call it in a :func:`fresh_process`. The first call, which loads code and fills caches,
    is not measured.

    Raises:
        RuntimeError: This system does not record the peak (it is not Linux).
    """
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not _RESET.exists():
        raise RuntimeError("peak memory of a CPU is read from /proc/self, which needs Linux")
    _RESET.write_text("5")  # the peak so far becomes what is resident now
    before = _status("VmRSS")
    function()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def fresh_process(device: torch.device) -> Iterator[Callable[..., Any]]:
    """Where to measure :func:`peak_bytes`: ``call(function, *arguments)``.

    For a CPU, that runs the picklable function in one new process with as many threads; else here.
    """
    if device.type != "cpu":
        yield _call
        return
    previous = {name: os.environ.get(name) for name in _ALLOCATOR}
    os.environ.update(_ALLOCATOR)
    threads = (torch.get_num_threads(),)
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, torch.set_num_threads, threads) as pool:
            yield lambda function, *arguments: pool.submit(function, *arguments).result()
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
