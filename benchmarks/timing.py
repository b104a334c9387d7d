"""Timing several implementations of one thing fairly, on a machine that others may be using."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Timing", "compare", "copy_rate", "measurements"]

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


def measurements(
    functions: Mapping[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    seconds: float = float("inf"),
    peak: Callable[[str], int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time and memory of all functions, and their ratios to the first one, the baseline.

    Args:
        functions: See :func:`compare`.
        repetitions: See :func:`compare`.
        device: See :func:`compare`.
        seconds: See :func:`compare`.
        peak: Measures the peak memory of the function of that name, in bytes.

    Returns:
        For each function a dictionary: ``median_ms``, ``best_ms``, ``cpu_ms``, ``peak_bytes`` (None
        if not measured), and, if the baseline ran, ``speedup`` (of medians), ``speedup_cpu`` and
        ``memory_ratio``. One that raises has ``error`` alone: out of memory is a result, too.
    """
    errors: dict[str, dict[str, Any]] = {}
    for name, function in functions.items():
        try:
            function()
        except Exception as error:  # whatever a compiler or driver raises belongs in the table
            message = str(error).strip() or type(error).__name__
            errors[name] = {"error": message.splitlines()[0][:160]}
    runnable = {name: f for name, f in functions.items() if name not in errors}
    timings = compare(runnable, repetitions, device, seconds)
    results = {}
    baseline = next(iter(functions))
    for name in functions:
        if name in errors:
            results[name] = errors[name]
            continue
        timing = timings[name]
        row: dict[str, Any] = {
            "median_ms": timing.median,
            "best_ms": timing.best,
            "cpu_ms": timing.cpu,
            "peak_bytes": None if peak is None else peak(name),
        }
        results[name] = row
        if baseline in timings:
            row["speedup"] = timings[baseline].median / timing.median
            row["speedup_cpu"] = timings[baseline].cpu / timing.cpu
            if peak is not None:
                row["memory_ratio"] = row["peak_bytes"] / max(results[baseline]["peak_bytes"], 1)
    return results


def copy_rate(device: torch.device, megabytes: int = 256) -> float:
    """Bytes per second that a plain copy reads and writes, with this number of threads."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    timing = compare({"copy": lambda: target.copy_(source)}, 10, device)["copy"]
    return 2 * source.numel() * 4 / (timing.best * 1e-3)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
