"""Installing a pure-Python mmcv, and telling which operators an environment has.

Standard library only: torch and mmcv need not be there yet, nor work.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import __version__

__all__ = ["InstallError", "compiling_command", "install", "main", "operators_in_use"]

# The distributions that own the module mmcv, and the releases that this one was tested with.
RELEASES = {"onedl-mmcv": "2.3.6", "mmcv": "2.1.0", "mmcv-lite": "2.1.0"}
# Their setup scripts need pkg_resources, which newer releases have not.
BUILD_CONSTRAINT = "setuptools<82\n"
# What would let the build see a torch, or change what it builds.
DIVERTING = ("PYTHONPATH", "PYTHONHOME", "MMCV_WITH_OPS", "PIP_NO_BUILD_ISOLATION")


class InstallError(Exception):
    """mmcv could not be installed; the message says why and what to do."""


def installed_mmcv() -> tuple[str, str]:
    """Name and version of the installed mmcv; of the maintained fork if there is none."""
    for name in RELEASES:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return next(iter(RELEASES.items()))


def compiling_command() -> str:
    """How to get the installed mmcv with operators of its own, in one line."""
    name, version = installed_mmcv()
    name = name.replace("-lite", "")
    return (
        "pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall "
        f"{name}=={version} (compiles for about 15 minutes; in a checkout of mmquad: "
        "make env OPS=compiled)"
    )


def operators_in_use() -> str:
    """Which operators `mmcv.ops` will find: `compiled`, `torchvision`, or `none`.

    Python takes a compiled module before a Python file of the same name, so `compiled` wins.
    Nothing is imported: mmcv's dependencies may still be missing.
    """
    found = importlib.util.find_spec("mmcv")
    # Without an mmcv, the folder with our file alone counts as an empty package.
    if found is None or found.origin is None:
        return "none"
    folder = Path(found.origin).parent
    if any(
        (folder / f"_ext{suffix}").exists() for suffix in importlib.machinery.EXTENSION_SUFFIXES
    ):
        return "compiled"
    return "torchvision" if (folder / "_ext.py").exists() else "none"


def _run(command: list[str], variables: dict[str, str], doing: str) -> None:
    done = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-12:])
        raise InstallError(
            f"{doing}: pip ended with status {done.returncode}. Its last lines:\n{tail}"
        )


def build_pure_wheel(requirement: str, folder: Path) -> Path:
    """Build `requirement` from its source without operators and put the wheel into `folder`.

    mmcv's setup script leaves its operators out where it cannot import torch, and pip's isolated
    builds see no torch. (`MMCV_WITH_OPS=0` is not a way: one flavour does not know it, the other
    changes its name then, which pip refuses.)

    Raises:
        InstallError: the build failed, or compiled something after all.
    """
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    constraint = folder / "build-constraint.txt"
    constraint.write_text(BUILD_CONSTRAINT)
    variables = {key: value for key, value in os.environ.items() if key not in DIVERTING}
    # The second is for pip before 25.3. As addresses, since pip splits these at spaces.
    for key in ("PIP_BUILD_CONSTRAINT", "PIP_CONSTRAINT"):
        variables[key] = f"{variables.get(key, '')} {constraint.as_uri()}".strip()
    options = ("--no-deps", "--no-cache-dir", f"--no-binary={name}", "--wheel-dir", str(folder))
    # pip's cache is left out: it would hand this wheel to whoever wants to compile mmcv later.
    _run(
        [sys.executable, "-m", "pip", "wheel", *options, requirement],
        variables,
        f"building {requirement} without operators",
    )
    wheel = next(folder.glob("*.whl"))
    if not wheel.name.endswith("-none-any.whl"):
        raise InstallError(
            f"{requirement} was built with compiled parts ({wheel.name}), expected a wheel that "
            "ends in none-any.whl: its build found a torch, although pip isolates builds"
        )
    return wheel


def install(requirement: str, dependencies: bool = True) -> None:
    """Install `requirement` as pure Python into the running environment.

    Args:
        requirement: For example `onedl-mmcv==2.3.6`.
        dependencies: Whether to install what mmcv needs, too.

    Raises:
        InstallError: see `build_pure_wheel`; or pip is missing or failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise InstallError("this environment has no pip: python -m ensurepip, then try again")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_pure_wheel(requirement, Path(scratch))
        pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir"]
        # By force, as pip takes a compiled mmcv of the same version for the same thing.
        replace = [*pip, "--no-deps", "--force-reinstall", str(wheel)]
        _run(replace, dict(os.environ), f"installing {wheel.name}")
        if dependencies:
            _run([*pip, str(wheel)], dict(os.environ), f"installing what {requirement} needs")


def status() -> str:
    """One line about mmcv and its operators."""
    name, version = installed_mmcv()
    described = {
        "compiled": "its own, compiled",
        "torchvision": f"from torchvision (mmcv-ops-torchvision {__version__})",
        "none": "none",
    }
    spec = importlib.util.find_spec("mmcv")
    mmcv = f"{name} {version}" if spec and spec.origin else "not installed"
    return f"mmcv: {mmcv}; operators: {described[operators_in_use()]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m mmcv_ops_torchvision`: 0 if mmcv has operators, or got them."""
    parser = argparse.ArgumentParser(
        prog="python -m mmcv_ops_torchvision",
        description="mmcv's operators from torchvision: without a command, say what is in use.",
    )
    commands = parser.add_subparsers(dest="command")
    install_parser = commands.add_parser("install", help="install mmcv as pure Python")
    install_parser.add_argument(
        "requirement", nargs="?", default="onedl-mmcv==2.3.6", help="default: %(default)s"
    )
    install_parser.add_argument("--no-deps", action="store_true", help="mmcv alone")
    chosen = parser.parse_args(arguments)
    if chosen.command == "install":
        try:
            install(chosen.requirement, dependencies=not chosen.no_deps)
        except InstallError as error:
            print(f"{error}", file=sys.stderr)
            return 1
    print(status())
    return int(operators_in_use() == "none")
