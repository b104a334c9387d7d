"""How many instructions of machine code are executed, by class."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.gpu_code.compilation import CompiledKernel
from benchmarks.gpu_code.disassembly import MachineInstruction
from benchmarks.ptx.program import Instruction

__all__ = ["Executed", "executed"]

# Machine instructions made from one PTX instruction each: what both begin with. From the others
# come several, or none.
MARKERS = {
    "FFMA": r"fma\.rn(\.ftz)?\.f32 ",
    "FMUL": r"mul(\.rn)?(\.ftz)?\.f32 ",
    "FADD": r"(add|sub)(\.rn)?(\.ftz)?\.f32 ",
    "MUFU.EX2": r"ex2\.",
    "HMMA": r"mma\.",
    "MOVM": r"movmatrix\.",
    "SHFL": r"shfl\.",
    "LDSM": r"ldmatrix\.",
    "LDGSTS": r"cp\.async\.c",
    # Of one number: where several are read at once, a machine may do it in parts.
    "LDS": r"ld\.shared\.[a-z]\d+ ",
    "STS": r"st\.shared\.[a-z]\d+ ",
    "LDG": r"ld\.global(\.nc)?\.[a-z]\d+ ",
    "STG": r"st\.global\.[a-z]\d+ ",
    "BAR": r"bar\.",
}


class Executed(NamedTuple):
    """Attributes:
    instructions: Of all warps together, by class.
    agreement: Share of the markers that were executed as often as their block is taken to be;
        low if the machine code does not follow the PTX.
    """

    instructions: Counter[str]
    agreement: float


def executed(kernel: CompiledKernel, visits: np.ndarray) -> Executed:
    """Of a kernel whose PTX instructions warps came by ``visits`` times.

    A block's count is that of most of its markers. Where an instruction of PTX has several copies
    (an unrolled loop, a branch's two sides), its visits are shared among them.
    """
    by_line = {i.line: (i, int(n)) for i, n in zip(kernel.ptx.code, visits, strict=True)}
    copies = Counter(
        machine.line for block in kernel.blocks for machine, _ in _markers(block, by_line)
    )
    total: Counter[str] = Counter()
    agreeing = counted = 0.0
    for block in kernel.blocks:
        votes = Counter(
            visited / copies[machine.line] for machine, visited in _markers(block, by_line)
        )
        if votes:
            count, number = max(votes.items(), key=lambda vote: (vote[1], vote[0]))
            agreeing += number / votes.total() * count * len(block)
            counted += count * len(block)
        else:
            known = [by_line[m.line][1] for m in block if m.line in by_line]
            count = statistics.median(known) if known else 0
        for machine in block:
            total[machine.kind] += count
    return Executed(total, agreeing / counted if counted else 0.0)


def _markers(
    block: list[MachineInstruction], by_line: dict[int, tuple[Instruction, int]]
) -> Iterable[tuple[MachineInstruction, int]]:
    """Those of a block, with the visits of their PTX."""
    for machine in block:
        instruction, visited = by_line.get(machine.line, (None, 0))
        if instruction is None:
            continue
        text = re.sub(r"^@!?%?\w+\s+", "", instruction.text)
        for opcode, pattern in MARKERS.items():
            if machine.opcode.startswith(opcode) and re.match(pattern, text.replace("\t", " ")):
                yield machine, visited
                break
