"""Builds the kernels against torch's stable ABI: one binary for Python >= 3.10, torch >= 2.10.

Two extension modules: `_C` with the ops for the CPU, and `_cuda` where an nvcc that fits torch is
found. Environment variables:

    MMQUAD_WITH_CUDA      1: fail without `_cuda`; 0: leave it out; unset: build it if possible
    TORCH_CUDA_ARCH_LIST  the GPUs to compile for, "8.0;9.0+PTX"; default ARCHITECTURES
    CUDA_HOME             the toolkit to use, if there are several

What is left out, and why, is written to mmquad_kernels/without_cuda.txt: pip shows no output of a
build that succeeds.
"""

import os
import re
import subprocess
from pathlib import Path

import torch
from setuptools import Extension, setup
from setuptools.errors import CompileError, LinkError
from torch.utils import cpp_extension
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

FLAGS = [
    "-O3",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-tree-slp-vectorize",  # vectors are written out; GCC 12 crashes on them in this pass
    "-fvisibility=hidden",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
]
CUDA = "mmquad_kernels._cuda"
CUDA_FOLDER = Path("csrc/directional_scan/cuda")

# The last one also as PTX, which later GPUs compile for themselves.
ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


def nvcc(*options: str) -> str:
    """What the toolkit's compiler prints."""
    command = [str(Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc"), *options]
    return subprocess.check_output(command, stderr=subprocess.STDOUT, text=True)


def find_toolkit() -> None:
    """Make torch use the folder nvcc lives in: what is on PATH may be a wrapper around it."""
    if cpp_extension.CUDA_HOME is None or "CUDA_HOME" in os.environ:
        return
    here = re.search(r"^#\$ _HERE_=(.+)$", nvcc("--dryrun", "-x", "cu", os.devnull), re.MULTILINE)
    if here is not None:
        cpp_extension.CUDA_HOME = str(Path(here[1]).parent)


def reason_against_cuda() -> str | None:
    """Why the CUDA part cannot be built here; None if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if cpp_extension.CUDA_HOME is None:
        return "no CUDA toolkit: nvcc is not on PATH and CUDA_HOME is not set"
    try:
        find_toolkit()
        release = re.search(r"release (\d+)\.(\d+)", nvcc("--version"))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"nvcc does not run: {error}"
    if release is None:
        return f"the nvcc in {cpp_extension.CUDA_HOME} does not say its version"
    if release[1] != torch.version.cuda.split(".")[0]:
        return (
            f"nvcc is of CUDA {release[1]}.{release[2]} and torch {torch.__version__} of CUDA "
            f"{torch.version.cuda}: their major versions must agree; set CUDA_HOME to another "
            "toolkit, or install the torch for this one"
        )
    return None


def architectures() -> str:
    """Those of ARCHITECTURES that this nvcc knows, as torch wants them."""
    known = nvcc("--list-gpu-arch").split()
    usable = [a for a in ARCHITECTURES if f"compute_{a.replace('.', '')}" in known]
    return ";".join(usable) + "+PTX"


def cpu_extension() -> Extension:
    sources = [p for p in Path("csrc").rglob("*.cpp") if CUDA_FOLDER not in p.parents]
    return CppExtension(
        "mmquad_kernels._C",
        sorted(str(path) for path in sources),
        extra_compile_args={"cxx": FLAGS},
        py_limited_api=True,
    )


def cuda_extension() -> Extension:
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", architectures())
    threads = min(os.cpu_count() or 1, int(os.environ.get("MAX_JOBS", "4")))
    return CUDAExtension(
        CUDA,
        [str(CUDA_FOLDER / "directional_scan.cpp"), str(CUDA_FOLDER / "launch.cu")],
        extra_compile_args={
            "cxx": FLAGS,
            # One GPU after another would take the sum of their times.
            "nvcc": ["-O3", "-std=c++17", f"--threads={threads}"],
        },
        py_limited_api=True,
    )


class BuildKernels(BuildExtension):
    """Goes on without the CUDA part, and leaves word, unless it was demanded."""

    def build_extensions(self) -> None:
        cuda = [extension for extension in self.extensions if extension.name == CUDA]
        self.extensions = [e for e in self.extensions if e.name != CUDA]
        super().build_extensions()
        reason = self.build_cuda(cuda) if cuda else REASON
        library = Path(self.get_ext_fullpath(CUDA))
        note = library.with_name("without_cuda.txt")
        note.unlink(missing_ok=True)
        if reason is not None:
            library.unlink(missing_ok=True)  # of an earlier build in the same folder
            note.write_text(reason + "\n")
            self.warn(f"kernels for the CPU only: {reason}")

    def build_cuda(self, cuda: list[Extension]) -> str | None:
        """Why it failed; None if it did not."""
        others, self.extensions = self.extensions, cuda
        try:
            super().build_extensions()
        except (RuntimeError, OSError, CompileError, LinkError) as error:
            if WANTED == "1":
                raise
            self.extensions = others
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return (
                f"compiling the CUDA kernels failed ({lines[0]}); MMQUAD_WITH_CUDA=1 pip install "
                "-v --no-build-isolation ./kernels shows why"
            )
        self.extensions = others + cuda
        return None


WANTED = os.environ.get("MMQUAD_WITH_CUDA", "")
if WANTED not in ("", "0", "1"):
    raise SystemExit(f"MMQUAD_WITH_CUDA must be 0, 1 or unset, got {WANTED!r}")
REASON = "MMQUAD_WITH_CUDA=0" if WANTED == "0" else reason_against_cuda()
if WANTED == "1" and REASON is not None:
    raise SystemExit(f"MMQUAD_WITH_CUDA=1, but the CUDA kernels cannot be built: {REASON}")

setup(
    ext_modules=[cpu_extension(), *([] if REASON else [cuda_extension()])],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
