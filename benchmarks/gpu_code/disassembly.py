"""Machine code as blocks of instructions that are executed equally often."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["CLASSES", "MachineInstruction", "disassemble", "find_disassembler", "read_listing"]

# The first pattern that an opcode begins with names its class.
CLASSES = {
    "float": r"FFMA|FMUL|FADD|FSETP|FSEL|FMNMX|FSET|FRND|FCHK|FSWZADD",
    "special function": r"MUFU",
    "shared memory": r"LDS\b|LDSM|STS\b|STSM|LDGSTS|ATOMS",
    "global memory": r"LDG(?!DEPBAR)|STG|LD\b|ST\b|ATOM|RED\b",
    "local memory": r"LDL|STL",
    "matrix": r"HMMA|IMMA|MOVM",
    "exchange": r"SHFL|VOTE|REDUX",
    "conversion": r"F2F|F2I|I2F|F2FP|HADD|HMUL|HFMA2?\.(?!MMA)|PRMT|I2I",
    "move": r"MOV|HFMA2\.MMA|HFMA2$|CS2R|S2R|S2UR|R2UR|LDC|ULDC|UMOV|P2R|R2P|IMAD\.MOV",
    "integer": r"IMAD|IADD|VIADD|LEA|ISETP|SEL|LOP|SHF|PLOP|IMNMX|VIMNMX|IABS|FLO|POPC|BFI|BMSK|U",
    "control": r"BRA|BSSY|BSYNC|EXIT|WARPSYNC|CALL|RET|BREAK|YIELD|NOP|BRX|NANOSLEEP|BMOV",
    "barrier": r"BAR|DEPBAR|LDGDEPBAR|MEMBAR|ERRBAR|CCTL|ARRIVES|FENCE",
}
# After one of these another block begins.
LEAVES = re.compile(r"(?:BRA|EXIT|RET|BRX|CALL|JMP)\b")


class MachineInstruction(NamedTuple):
    """``line``: of the PTX that it was made from; None if unknown."""

    opcode: str
    line: int | None

    @property
    def kind(self) -> str:
        """Its class, one of ``CLASSES``.

        Raises:
            ValueError: It belongs to none.
        """
        for name, pattern in CLASSES.items():
            if re.match(pattern, self.opcode):
                return name
        raise ValueError(f"no class in benchmarks/gpu_code/disassembly.py for {self.opcode}")


def find_disassembler() -> str | None:
    """nvdisasm of CUDA_HOME, of PATH, or the one that Triton brings along."""
    home = os.environ.get("CUDA_HOME")
    if path := shutil.which("nvdisasm", path=f"{home}/bin" if home else None):
        return path
    triton = importlib.util.find_spec("triton")
    for folder in triton.submodule_search_locations or [] if triton else []:
        path = Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm"
        if path.is_file():
            return str(path)
    return None


def disassemble(disassembler: str, cubin: Path) -> dict[str, list[list[MachineInstruction]]]:
    """Blocks by kernel; the cubin was compiled with ``-lineinfo`` from a file of PTX."""
    command = [disassembler, "--print-line-info-ptx", "--print-code", cubin]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return read_listing(done.stdout)


def read_listing(text: str) -> dict[str, list[list[MachineInstruction]]]:
    """What nvdisasm prints, as blocks by kernel."""
    kernels: dict[str, list[list[MachineInstruction]]] = {}
    blocks: list[list[MachineInstruction]] = []
    line = None
    for row in text.splitlines():
        if match := re.match(r"\.text\.(\S+):", row):
            blocks = kernels[match[1]] = [[]]
            line = None
        elif match := re.match(r"\s*//## File .*, line (\d+)", row):
            line = int(match[1])
        elif re.match(r"\.L\w+:", row) and kernels:
            blocks.append([])
        elif match := re.match(
            r"\s+/\*[0-9a-f]{4,}\*/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", row
        ):
            blocks[-1].append(MachineInstruction(match[1], line))
            if LEAVES.match(match[1]):
                blocks.append([])
    return {name: [block for block in each if block] for name, each in kernels.items()}
