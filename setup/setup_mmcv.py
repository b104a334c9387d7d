"""The part of `make env OPS=compiled` that installs an mmcv whose operations fit the torch.

Standard library only, and readable by Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from setup_checks import Interpreter, SetupError, check_build_tools, check_disk
from setup_steps import Environment

BUILD_GIB = 1.5


class Torch(NamedTuple):
    """The torch that mmcv has to fit."""

    version: str
    cuda: str | None
    capability: str | None  # of the first GPU, e.g. "90"; None without a usable GPU
    nvcc: str | None  # nvcc's release, e.g. "13.0"

    @property
    def can_compile_cuda(self) -> bool:
        """torch refuses an nvcc of another major version than its own CUDA."""
        if not self.cuda or not self.nvcc:
            return False
        return self.nvcc.split(".")[0] == self.cuda.split(".")[0]

    @property
    def ops(self) -> str:
        """The kind of ops to build: `cpu`, or CUDA version and architectures (`cu130-sm90`)."""
        forced = os.environ.get("FORCE_CUDA", "0") == "1"
        if not self.can_compile_cuda or not (self.capability or forced):
            return "cpu"
        architectures = os.environ.get("TORCH_CUDA_ARCH_LIST") or f"sm{self.capability or 'all'}"
        digits = str(self.cuda).replace(".", "")
        return f"cu{digits}-" + re.sub(r"[^A-Za-z0-9+]+", "_", architectures)


ASK_TORCH = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = torch.cuda.is_available()
capability = "%d%d" % torch.cuda.get_device_capability(0) if gpu else None
print("\\n" + json.dumps([torch.__version__, torch.version.cuda, capability, CUDA_HOME]))
"""
# Loads the extension by its path: `import mmcv` would need mmcv's dependencies, which come later.
# `not available` is what mmcv answers when its ops were compiled for the CPU alone.
ASK_MMCV = """
import importlib.util, pathlib, torch
folder = pathlib.Path(importlib.util.find_spec("mmcv").origin).parent
files = list(folder.glob("_ext*.so"))
if not files:
    raise SystemExit("it has no compiled ops")
spec = importlib.util.spec_from_file_location("mmcv._ext", files[0])
ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ops)
print("CUDA:", ops.get_compiling_cuda_version())
"""


def find_torch(env: Environment) -> Torch:
    """Ask the environment's torch about itself and about the CUDA toolkit it would compile with."""
    worked, output = env.ask(ASK_TORCH)
    if not worked:
        raise SetupError(f"torch is installed but does not import:\n{output[-1500:]}")
    version, cuda, capability, cuda_home = json.loads(output.splitlines()[-1])
    nvcc = None
    if cuda_home:
        try:
            text = subprocess.run(
                [os.path.join(cuda_home, "bin", "nvcc"), "--version"],
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            release = re.search(r"release (\d+\.\d+)", text)
            nvcc = release and release[1]
        except OSError:
            pass
    return Torch(version, cuda, capability, nvcc)


def wheel_folder(distribution: str, version: str, python: str, torch: Torch) -> Path:
    """Where a compiled mmcv is kept; the name holds all that decides whether it fits.

    pip's own wheel cache knows neither the torch nor the CUDA that a wheel was compiled for.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tag = "cp" + python.replace(".", "")
    public = torch.version.split("+")[0]
    key = f"{distribution}-{version}-{tag}-torch{public}-{torch.ops}"
    return cache / "mmquad" / "wheels" / key


def mmcv_fault(env: Environment, torch: Torch) -> str | None:
    """Why the installed mmcv cannot be used with this torch; None if it can."""
    worked, output = env.ask(ASK_MMCV)
    if not worked:
        lines = output.splitlines()
        return lines[-1][:300] if lines else "its import ended the process"
    if torch.ops != "cpu" and "CUDA: not available" in output:
        return "it has no CUDA ops, and this machine has a GPU and nvcc"
    return None


def install_mmcv(
    env: Environment, torch: Torch, distribution: str, version: str, interpreter: Interpreter
) -> None:
    """Install an mmcv whose compiled ops load, from the first source that has one.

    The order: what is installed already, this machine's own cache of compiled wheels, a binary
    wheel that pip finds (PIP_FIND_LINKS), the source distribution.
    """
    requirement = f"{distribution}=={version}"
    if torch.capability and torch.ops == "cpu":
        print(
            f"  note: there is a GPU, but no nvcc of CUDA {torch.cuda}: mmcv gets CPU ops only. "
            "Detection needs its CUDA ops to run on the GPU; segmentation and classification "
            "do not."
        )
    installed, output = env.ask(
        f"import importlib.metadata as m; print(m.version('{distribution}'))"
    )
    if installed and output == version and mmcv_fault(env, torch) is None:
        return
    install = ("install", "--no-deps", "--force-reinstall", "--no-cache-dir")
    folder = wheel_folder(distribution, version, interpreter.minor, torch)
    for wheel in sorted(folder.glob("*.whl")):
        try:
            env.step(f"mmcv: {requirement} from {folder}", env.pip(*install, str(wheel)))
        except SetupError:  # cut off, or of another kind of machine with the same home
            print("  the cached wheel cannot be installed; passing it over")
            continue
        fault = mmcv_fault(env, torch)
        if fault is None:
            return
        print(f"  the cached wheel does not work ({fault}); removing it")
        wheel.unlink()
    try:
        binary = f"--only-binary={distribution}"
        env.step(
            f"mmcv: looking for a wheel of {requirement}",
            env.pip(*install, binary, requirement),
            failed="found none",
        )
    except SetupError:
        print("  no ready wheel; it has to be compiled")
    else:
        fault = mmcv_fault(env, torch)
        if fault is None:
            return
        print(f"  that wheel does not fit torch {torch.version} ({fault}); compiling instead")
    wheel = build_mmcv(env, requirement, folder, torch, interpreter)
    env.step(f"mmcv: {requirement} from {folder}", env.pip(*install, str(wheel)))
    fault = mmcv_fault(env, torch)
    if fault:
        raise SetupError(
            f"mmcv was compiled but its ops do not load: {fault}\nThe whole output: {env.log}"
        )


def build_mmcv(
    env: Environment, requirement: str, folder: Path, torch: Torch, interpreter: Interpreter
) -> Path:
    """Compile mmcv against the installed torch and put the wheel into the cache."""
    check_build_tools(interpreter)
    check_disk({Path(tempfile.gettempdir()): BUILD_GIB, folder: 0.1})
    cores = len(os.sched_getaffinity(0))
    jobs = os.environ.get("MAX_JOBS", str(cores))
    print(
        f"  Compiling {requirement} for torch {torch.version} ({torch.ops} ops) with {jobs} jobs: "
        "about 15 minutes on 2 cores, longer with CUDA. It happens once: the wheel is kept in\n"
        f"  {folder}"
    )
    variables = {"MAX_JOBS": jobs}
    if torch.ops == "cpu":
        # mmcv's build turns to CUDA whenever it sees a GPU, and stops if nvcc does not fit.
        variables.update(CUDA_VISIBLE_DEVICES="", FORCE_CUDA="0")
    name = requirement.split("==")[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its destination, so that the rename below stays on one filesystem and is atomic.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
        env.step(
            f"mmcv: compiling {requirement}",
            env.pip(
                *("wheel", "-v", "--no-build-isolation", "--no-cache-dir", "--no-deps"),
                *(f"--no-binary={name}", "--wheel-dir", scratch, requirement),
            ),
            variables,
        )
        wheel = next(Path(scratch).glob("*.whl"))
        folder.mkdir(exist_ok=True)
        os.replace(wheel, folder / wheel.name)
    return folder / wheel.name
