"""Building the package from source, as its users do, and one scan with what comes out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"

COMPARE = """
import sys
import torch
import mmquad_kernels
from benchmarks.scan_accuracy import LIMITS, Point, check_point
assert mmquad_kernels.__file__.startswith(sys.argv[1]), mmquad_kernels.__file__
for op in ("directional_scan", "selective_scan"):
    point = Point(op, 65, 2, 2, torch.float32)
    (result,) = check_point(point, ["native"], torch.device("cpu"))
    assert max(result.errors.values()) <= LIMITS[point.dtype], result
print("compared")
"""


def _reason_against() -> str:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler: {compiler} is not on PATH"
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        return "no pip in this environment"
    return ""


@pytest.mark.slow
@pytest.mark.skipif(bool(_reason_against()), reason=_reason_against())
def test_builds_and_computes(tmp_path: Path) -> None:
    source, target = tmp_path / "kernels", tmp_path / "site"
    # Beside the repository, so that nothing built there is used and nothing is left there.
    ignored = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__")
    shutil.copytree(KERNELS, source, ignore=ignored)
    options = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--target", str(target)]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)],
        env={**os.environ, "MMQUAD_WITH_CUDA": "0"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    compared = subprocess.run(
        [sys.executable, "-c", COMPARE, str(target)],
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert compared.stdout.endswith("compared\n"), compared.stderr[-3000:]


@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not on PATH")
def test_clang_knows_every_function_the_kernels_use(tmp_path: Path) -> None:
    source = KERNELS / "csrc/scan/cpu/kernel_baseline.cpp"
    command = ["clang++", "-std=c++17", "-Wall", "-Werror", "-O0", "-c", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "kernel.o")], check=True)
