"""What is known of every GPU kernel without a GPU, its budget, and the record of it.

``figures.json`` beside this file holds the figures of the kernels as they are. A change of more
than 3 % has to be written down there: ``python -m benchmarks.count_sass --write``.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.gpu_code.compilation import CompiledKernel
from benchmarks.gpu_code.directional_scan import Work
from benchmarks.gpu_code.disassembly import CLASSES
from benchmarks.gpu_code.execution import executed

__all__ = [
    "BUDGETS",
    "RECORD",
    "TOLERANCE",
    "Budget",
    "Figures",
    "changes",
    "measure",
    "over_budget",
    "read_record",
    "resident_blocks",
    "table",
    "write_record",
]

RECORD = Path(__file__).with_name("figures.json")
TOLERANCE = 0.03
LANES = 32


class Figures(NamedTuple):
    """Of one kernel.

    Attributes:
        unit: What ``instructions`` are per.
        registers: Of a thread.
        spilled: Bytes that a thread stores to local memory and loads from it.
        shared_bytes: Of a block.
        threads: Of a block.
        resident_blocks: That fit on a multiprocessor.
        total: All instructions together.
        instructions: By class; executed by a lane for one unit, so that 32 lanes share an issue.
        agreement: As of :class:`benchmarks.gpu_code.execution.Executed`.
    """

    unit: str
    registers: int
    spilled: int
    shared_bytes: int
    threads: int
    resident_blocks: int
    total: float
    instructions: dict[str, float]
    agreement: float


class Budget(NamedTuple):
    """The most that a kernel may execute per unit, of all and of the special functions; the most
    bytes that it may spill."""

    total: float
    special: float
    spilled: int = 0


# Compiled for 9.0, of the kernels as they are: what they execute, rounded up. None shall get worse.
BUDGETS = {
    "forward, N=1": Budget(136, 2.1),
    "forward, N=4": Budget(150, 5.1),
    "forward, N=16": Budget(236, 17.1),
    "local forward, N=1": Budget(111, 2.1),
    "local forward, N=4": Budget(127, 5.1),
    "local forward, N=16": Budget(206, 17.1),
    "local backward, N=1": Budget(109, 2.1),
    "local backward, N=4": Budget(124, 5.1),
    "local backward, N=16": Budget(197, 17.1),
    "backward, N=1": Budget(396, 5),
    "backward, N=4": Budget(484, 11),
    "backward, N=16": Budget(900, 34),
    "forward, N=1, R=24": Budget(197, 2.1),
    "backward, N=1, R=24": Budget(682, 5),
    "local forward, N=1, R=24": Budget(175, 2.1),
    "local backward, N=1, R=24": Budget(172, 2.1),
    "backward, N=1, windows": Budget(451, 5),
    "combine": Budget(55, 1.1),
}


class _Multiprocessor(NamedTuple):
    """Of 65,536 registers; a block takes 1 KiB of shared memory beyond what it asks for."""

    shared_bytes: int
    warps: int = 64
    blocks: int = 32


MULTIPROCESSORS = {
    80: _Multiprocessor(164 << 10),
    90: _Multiprocessor(228 << 10),
    100: _Multiprocessor(228 << 10),
}


def resident_blocks(target: int, registers: int, shared_bytes: int, threads: int) -> int:
    """How many blocks are on a multiprocessor at once, other limits aside.

    Raises:
        ValueError: For a compute capability that is not listed here.
    """
    if target not in MULTIPROCESSORS:
        raise ValueError(
            f"multiprocessors are known for {sorted(MULTIPROCESSORS)}, not for {target}: "
            "add it in benchmarks/gpu_code/figures.py"
        )
    place, warps = MULTIPROCESSORS[target], threads // LANES
    of_a_warp = -(-registers // 8) * 8 * LANES
    by_registers = 65536 // of_a_warp // 4 * 4 // warps
    by_shared = place.shared_bytes // (shared_bytes + 1024)
    return min(place.blocks, place.warps // warps, by_registers, by_shared)


def measure(work: Work, kernel: CompiledKernel, target: int) -> Figures:
    """Run the kernel on two lengths; what the longer one executes more is counted."""
    short, long = work.chunks
    visits = _visits(work, kernel, long) - _visits(work, kernel, short)
    count, agreement = executed(kernel, visits)
    units = (work.units(long) - work.units(short)) / LANES
    shared = kernel.ptx.shared_places()[1] + work.shared_bytes
    fits = resident_blocks(target, kernel.registers, shared, work.threads)
    return Figures(
        work.unit,
        kernel.registers,
        kernel.spilled,
        shared,
        work.threads,
        fits,
        round(count.total() / units, 2),
        {name: round(number / units, 2) for name, number in sorted(count.items()) if number},
        round(agreement, 3),
    )


def _visits(work: Work, kernel: CompiledKernel, chunks: int) -> np.ndarray:
    visits = np.zeros(len(kernel.ptx.code), np.int64)
    work.launch(kernel.ptx, chunks)._replace(visits=visits).run()
    return visits


def over_budget(figures: Figures, budget: Budget) -> list[str]:
    """What of a kernel exceeds its budget."""
    special = figures.instructions.get("special function", 0)
    pairs = {
        "instructions": (figures.total, budget.total),
        "special functions": (special, budget.special),
        "bytes spilled": (figures.spilled, budget.spilled),
    }
    return [f"{value} {name} > {most}" for name, (value, most) in pairs.items() if value > most]


def changes(old: Figures | None, new: Figures) -> list[str]:
    """What of a kernel differs from the record by more than the tolerance."""
    if old is None:
        return ["it is not in the record"]
    pairs = {
        name: (getattr(old, name), getattr(new, name))
        for name in ("registers", "spilled", "shared_bytes", "threads", "resident_blocks", "total")
    }
    # Of the total, so that a class with next to nothing in it may double.
    most = TOLERANCE * old.total
    for name in old.instructions.keys() | new.instructions.keys():
        before, now = (each.instructions.get(name, 0.0) for each in (old, new))
        if abs(before - now) > most:
            pairs[name] = (before, now)
    return [
        f"{name}: {before} -> {now}"
        for name, (before, now) in pairs.items()
        if abs(before - now) > TOLERANCE * abs(before)
    ]


def read_record(path: Path = RECORD) -> tuple[dict[str, Figures], str]:
    """The figures by name, and what they were compiled with."""
    record = json.loads(path.read_text())
    return {name: Figures(**each) for name, each in record["kernels"].items()}, record["compiled"]


def write_record(figures: dict[str, Figures], compiled: str, path: Path = RECORD) -> None:
    """One kernel after the other, so that a change shows in its own lines."""
    kernels = {name: each._asdict() for name, each in figures.items()}
    path.write_text(json.dumps({"compiled": compiled, "kernels": kernels}, indent=1) + "\n")


def table(figures: Iterable[tuple[str, Figures]]) -> str:
    """Markdown; one column per class that any of the kernels executes."""
    rows = list(figures)
    present = {kind for _, each in rows for kind in each.instructions}
    kinds = [kind for kind in CLASSES if kind in present]
    head = ["kernel", "all", *kinds, "registers", "spilled", "shared", "blocks"]
    lines = [head, ["---"] * len(head)]
    for name, each in rows:
        counts = [f"{each.instructions.get(kind, 0):.1f}" for kind in kinds]
        sizes = (each.registers, each.spilled, each.shared_bytes, each.resident_blocks)
        lines.append([name, f"{each.total:.1f}", *counts, *map(str, sizes)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
