"""nvcc takes the kernels, and keeps what they hold in registers."""

import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "kernels/csrc/directional_scan/cuda/launch.cu"
# Threads of a block times registers of a thread must fit in a multiprocessor's 65,536.
MOST_REGISTERS = 255


@pytest.mark.slow
def test_nvcc_compiles_without_spills(nvcc: str, tmp_path: Path) -> None:
    command = [nvcc, "-std=c++17", "-O3", "-arch=sm_90", "-cubin", "-Xptxas=-v", SOURCE]
    done = subprocess.run(
        [*command, "-o", tmp_path / "kernels.cubin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    entries = re.split(r"Compiling entry function '", done.stderr)[1:]
    kernels = {entry.split("'")[0]: entry for entry in entries}
    # Forward, backward and both ways of the local phase for three numbers of states; one more.
    assert len(kernels) == 3 * 4 + 1
    for name, report in kernels.items():
        assert int(re.search(r"Used (\d+) registers", report)[1]) <= MOST_REGISTERS, name
        assert re.search(r"\b0 bytes spill stores, 0 bytes spill loads", report), (name, report)
