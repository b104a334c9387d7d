"""Kernels, compiled for a GPU that need not be there."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu_code.disassembly import MachineInstruction, disassemble
from benchmarks.ptx.program import Kernel, parse

__all__ = ["CompiledKernel", "compile_kernels", "find_nvcc", "nvcc_version"]


class CompiledKernel(NamedTuple):
    """One entry function.

    Attributes:
        ptx: For the interpreter.
        blocks: Its machine code.
        registers: Of a thread.
        spilled: Bytes that a thread stores to local memory and loads from it, together.
    """

    ptx: Kernel
    blocks: list[list[MachineInstruction]]
    registers: int
    spilled: int


def find_nvcc() -> str | None:
    """Of CUDA_HOME if that is set, otherwise of PATH."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


def nvcc_version(nvcc: str) -> str:
    """As ``13.0``."""
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"release (\d+\.\d+)", done.stdout)
    if match is None:
        raise ValueError(f"{nvcc} --version names no release: {done.stdout}")
    return match[1]


def compile_kernels(
    nvcc: str,
    disassembler: str,
    source: Path,
    folder: Path,
    target: int = 90,
    options: Sequence[str] = (),
) -> dict[str, CompiledKernel]:
    """All kernels of a source file for compute capability ``target``, by their mangled names.

    PTX and cubin are written to ``folder``, which exists.
    """
    ptx, cubin = folder / f"{source.stem}.ptx", folder / f"{source.stem}.cubin"
    flags = ["-std=c++17", "-O3", "-lineinfo", *options]
    subprocess.run([nvcc, *flags, f"-arch=compute_{target}", "-ptx", source, "-o", ptx], check=True)
    done = subprocess.run(
        [nvcc, "-lineinfo", f"-arch=sm_{target}", "-cubin", "-Xptxas=-v", ptx, "-o", cubin],
        capture_output=True,
        text=True,
        check=True,
    )
    reports = re.split(r"Compiling entry function '", done.stderr)[1:]
    resources = {report.split("'")[0]: _resources(report) for report in reports}
    blocks = disassemble(disassembler, cubin)
    return {
        name: CompiledKernel(kernel, blocks[name], *resources[name])
        for name, kernel in parse(ptx.read_text()).items()
    }


def _resources(report: str) -> tuple[int, int]:
    registers = re.search(r"Used (\d+) registers", report)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    if registers is None or spills is None:
        raise ValueError(f"ptxas reports neither registers nor spills: {report}")
    return int(registers[1]), int(spills[1]) + int(spills[2])
