"""Timing several implementations of one thing fairly, on a machine that others may be using."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Timing", "compare", "copy_rate"]

FEWEST = 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call, over the repetitions.

    Attributes:
        median: Of the wall clock.
        best: Smallest of the wall clock: the least disturbed repetition.
        cpu: Smallest processor time, all threads together; hardly disturbed by other processes.
    """

    median: float
    best: float
    cpu: float


def compare(
    functions: Mapping[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    seconds: float = float("inf"),
) -> dict[str, Timing]:
    """Time the functions in turns, so that all of them see the same disturbances.

    Args:
        functions: By name. Each is called once before it counts: the first call allocates,
            compiles and fills caches.
        repetitions: Timed calls of each.
        device: What to wait for after a call.
        seconds: Stop after this time, but not before three timed calls of each.
    """
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    begin = time.perf_counter()
    for repetition in range(repetitions + 1):
        if repetition > FEWEST and time.perf_counter() - begin > seconds:
            break
        for name, function in functions.items():
            _wait(device)
            start, cpu_start = time.perf_counter(), time.process_time()
            function()
            _wait(device)
            if repetition > 0:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
    return {
        name: Timing(
            1e3 * statistics.median(wall[name]), 1e3 * min(wall[name]), 1e3 * min(cpu[name])
        )
        for name in functions
    }


def copy_rate(device: torch.device, megabytes: int = 256) -> float:
    """Bytes per second that a plain copy reads and writes, with this number of threads."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    timing = compare({"copy": lambda: target.copy_(source)}, 10, device)["copy"]
    return 2 * source.numel() * 4 / (timing.best * 1e-3)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
