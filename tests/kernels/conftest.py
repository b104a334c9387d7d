"""The CUDA kernels compiled by the host's compiler, over an emulation of CUDA's threads."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

from mmquad.ops.directional_scan import BACKENDS

TESTS = Path(__file__).parents[1]
SOURCES = TESTS.parent / "kernels" / "csrc" / "directional_scan" / "cuda"
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020a000000000000"


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ops of kernels/ for tensors in host memory, compiled and loaded."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the emulated kernels with")
    if tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 10):
        pytest.skip("the kernels need torch 2.10 or later")
    folder = tmp_path_factory.mktemp("emulated")
    includes = [f"-I{path}" for path in [TESTS / "emulation", SOURCES, *include_paths()]]
    # Fortified jumps refuse to leave the stack they are on.
    shared = ["-std=c++17", "-O1", "-fPIC", "-U_FORTIFY_SOURCE"]
    flags = [*shared, "-Wall", "-Wno-unknown-pragmas"]
    subprocess.run(
        [compiler, *flags, *includes, "-c", "-x", "c++", SOURCES / "launch.cu", "-o", "kernels.o"],
        cwd=folder,
        check=True,
    )
    binding = [SOURCES / "directional_scan.cpp", "-DMMQUAD_EMULATED", STABLE_ABI]
    libraries = [*(f"-L{path}" for path in library_paths()), "-ltorch", "-ltorch_cpu", "-lc10"]
    parts = [*shared, "-shared", *includes, *binding, "kernels.o", *libraries]
    subprocess.run([compiler, *parts, "-o", "emulated.so"], cwd=folder, check=True)
    torch.ops.load_library(str(folder / "emulated.so"))
    return folder / "emulated.so"


@pytest.fixture
def emulated_ops(emulated_library: Path):
    """As torch.ops.mmquad_kernels has them."""
    return torch.ops.mmquad_emulated


@pytest.fixture
def cuda_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend of that name, its objection to tensors on the CPU gone."""
    backend = dataclasses.replace(
        BACKENDS["cuda"], unavailable=list, unsupported=lambda **inputs: []
    )
    monkeypatch.setitem(BACKENDS._by_name, "cuda", backend)


@pytest.fixture(scope="session")
def nvcc() -> str:
    home = os.environ.get("CUDA_HOME")
    path = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    if path is None:
        pytest.skip("no nvcc on PATH or in CUDA_HOME")
    return path
