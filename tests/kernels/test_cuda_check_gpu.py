"""benchmarks/check_gpu.sh names files that exist; without a GPU no more of it can run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "check_gpu.sh"


def test_dry_run_names_existing_files_and_tests() -> None:
    command = ["bash", SCRIPT, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    steps = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert {"install", "tests", "memcheck", "racecheck", "synccheck", "precision"} <= set(steps)
    for path in re.findall(r"(?:benchmarks|tests)/[\w/]+(?:\.py)?", done.stdout):
        assert (ROOT / path).exists(), path
    (test,) = set(re.findall(r"::(\w+)", done.stdout))
    assert f"def {test}(" in (ROOT / "tests/kernels/test_cuda_device.py").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="would run everything")
def test_without_a_gpu_it_stops_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "WORK_DIR": str(tmp_path / "work")}
    done = subprocess.run(
        ["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "torch sees no CUDA device" in done.stderr
    assert not (tmp_path / "work").exists()


def test_unknown_arguments_are_refused() -> None:
    done = subprocess.run(["bash", SCRIPT, "--dry"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


def test_a_step_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    """With stand-ins for every program: Python says 9.0 to everything and fails at pytest."""
    python = tmp_path / "python"
    answer = 'echo "9.0${TORCH_CUDA_ARCH_LIST:+ for $TORCH_CUDA_ARCH_LIST}"'
    python.write_text(f'#!/bin/sh\n{answer}\n[ "$2" != pytest ]\n')
    for name in ("nvidia-smi", "compute-sanitizer"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
    for stand_in in (python, tmp_path / "nvidia-smi", tmp_path / "compute-sanitizer"):
        stand_in.chmod(0o755)
    work = tmp_path / "work"
    environment = {**os.environ, "PYTHON": str(python), "WORK_DIR": str(work)}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    environment.pop("TORCH_CUDA_ARCH_LIST", None)
    done = subprocess.run(
        ["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    summary = done.stdout.split(f"Results in {work}\n")[1].splitlines()
    failed = [line.split()[1] for line in summary if line.startswith("FAILED")]
    assert failed == ["tests"]
    assert len(summary) == 10
    assert (work / "install.log").read_text() == "9.0 for 9.0\n"
