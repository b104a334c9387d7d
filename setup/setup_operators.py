"""The part of `make env` that installs mmcv: pure Python, its operators from torchvision.

`OPS=compiled` compiles mmcv instead (setup_mmcv.py). Standard library only, and readable by
Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

from pathlib import Path

from setup_checks import SetupError
from setup_mmcv import Torch
from setup_steps import Environment

CHOICES = ("torchvision", "compiled")
ASK_OPERATORS = """
import importlib.metadata, mmcv_ops_torchvision.install as install
print(install.operators_in_use(), importlib.metadata.version("{distribution}"))
"""


def check_choice(operators: str) -> None:
    """`OPS=` is empty or one of the choices."""
    if operators and operators not in CHOICES:
        raise SetupError(f"OPS={operators}: need one of {', '.join(CHOICES)}.")


def operator_sources(root: Path) -> str:
    """Everything that the distribution of the operators is built from, as one text."""
    folder = root / "mmcv_ops"
    files = [*folder.rglob("*.py"), folder / "pyproject.toml"]
    return "".join(
        f"{path.relative_to(folder)}\n{path.read_text()}" for path in sorted(files) if path.exists()
    )


def install_operators(env: Environment, torch: Torch, distribution: str, version: str) -> None:
    """Install mmcv without operators of its own, and those that torchvision serves."""
    requirement = f"{distribution}=={version}"
    options = ("--no-build-isolation", "--no-deps", "--no-cache-dir", "--force-reinstall")
    env.step("mmcv's operators from torchvision", env.pip("install", *options, "./mmcv_ops"))
    worked, output = env.ask(ASK_OPERATORS.format(distribution=distribution))
    if not worked or output != f"torchvision {version}":
        command = (str(env.python), "-m", "mmcv_ops_torchvision", "install", "--no-deps")
        env.step(f"mmcv: {requirement}, pure Python", [*command, requirement])
    if torch.capability:
        print(
            "  note: there is a GPU, and mmcv's operators from torchvision have not been run on "
            "one yet. OPS=compiled compiles mmcv's own."
        )
