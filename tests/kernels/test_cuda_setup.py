"""When kernels/setup.py builds the CUDA part, and what it says when it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

KERNELS = Path(__file__).parents[2] / "kernels"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.version.cuda is None, reason="torch was built without CUDA"),
]


def set_up(with_cuda: str, home: Path) -> subprocess.CompletedProcess:
    """`setup.py --version`, which decides everything and builds nothing."""
    environment = {**os.environ, "MMQUAD_WITH_CUDA": with_cuda, "CUDA_HOME": str(home)}
    command = [sys.executable, "setup.py", "--version"]
    return subprocess.run(
        command, cwd=KERNELS, env=environment, capture_output=True, text=True, check=False
    )


def write_nvcc(home: Path, text: str) -> None:
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\n{text}\n")
    nvcc.chmod(0o755)


def test_another_major_version_is_refused(tmp_path: Path) -> None:
    write_nvcc(tmp_path, "echo 'Cuda compilation tools, release 9.2, V9.2.148'")
    done = set_up("1", tmp_path)
    assert done.returncode != 0
    assert (
        f"nvcc is of CUDA 9.2 and torch {torch.__version__} of CUDA {torch.version.cuda}: their "
        "major versions must agree"
    ) in done.stderr


def test_without_demand_it_goes_on(tmp_path: Path) -> None:
    write_nvcc(tmp_path, "exit 3")
    done = set_up("", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0.1.0"


def test_other_values_are_refused(tmp_path: Path) -> None:
    done = set_up("yes", tmp_path)
    assert done.returncode != 0
    assert "MMQUAD_WITH_CUDA must be 0, 1 or unset, got 'yes'" in done.stderr
