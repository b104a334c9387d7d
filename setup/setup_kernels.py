"""The optional part of `make env`: compiling mmquad's own kernels (kernels/).

Everything runs without them, slower. So nothing here ends the set-up: what is in the way is said.
Standard library only, and readable by Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

from pathlib import Path

from setup_checks import Interpreter, SetupError, check_build_tools
from setup_mmcv import Torch
from setup_steps import Environment

# The first torch whose stable ABI has what the kernels call.
OLDEST_TORCH = (2, 10)
SUFFIXES = (".cpp", ".cu", ".cuh", ".h", ".inc", ".py", ".toml")


def kernel_sources(root: Path) -> str:
    """Everything the binary depends on, as one text."""
    folder = root / "kernels"
    files = [path for part in ("csrc", "mmquad_kernels") for path in (folder / part).rglob("*")]
    files += folder.glob("*")
    return "".join(
        f"{path.relative_to(folder)}\n{path.read_text()}"
        for path in sorted(files)
        if path.suffix in SUFFIXES and path.is_file()
    )


def in_the_way(torch: Torch, interpreter: Interpreter) -> str | None:
    """Why the kernels cannot be compiled here; None if they can."""
    numbers = tuple(int(number) for number in torch.version.split("+")[0].split(".")[:2])
    if numbers < OLDEST_TORCH:
        return f"they need torch 2.10 or later, this is {torch.version}"
    try:
        check_build_tools(interpreter)
    except SetupError as error:
        return str(error).splitlines()[0]
    return None


def install_kernels(env: Environment, torch: Torch, interpreter: Interpreter) -> None:
    """Compile and install the kernels, or say why they are left out."""
    reason = in_the_way(torch, interpreter)
    if reason is None:
        # Compiling for a GPU takes minutes; worth it where there is one.
        with_cuda = bool(torch.capability) and torch.can_compile_cuda
        variables = {"MMQUAD_WITH_CUDA": "1" if with_cuda else "0"}
        if with_cuda and torch.capability:
            capability = f"{torch.capability[:-1]}.{torch.capability[-1]}"
            variables["TORCH_CUDA_ARCH_LIST"] = capability
        options = ("--no-build-isolation", "--no-deps", "--no-cache-dir", "--force-reinstall")
        try:
            env.step(
                "kernels (optional), about a minute",
                env.pip("install", *options, "./kernels"),
                variables,
            )
        except SetupError as error:
            reason = str(error)
    if reason is not None:
        print(
            f"  note: the native kernels are left out: {reason}\n"
            "  Everything runs without them, scans on the CPU several times slower. Later: "
            f"{env.python} -m pip install --no-build-isolation ./kernels"
        )
