"""Create or update the environment that `make demo` and `make test` run in.

Python's standard library only; any Python from 3.8 on can start it, and it then looks for one of
3.10-3.12 to build with. The environment is `.venv` (flavour `onedl`, the maintained OpenMMLab
forks) or `.venv-openmmlab` (the originals): the two own the same modules and never share one.
A stamp, written last, tells a finished environment from one that an interruption left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from setup_checks import (
    Interpreter,
    SetupError,
    check_disk,
    check_venv_modules,
    choose_interpreter,
)
from setup_kernels import install_kernels, kernel_sources
from setup_mmcv import find_torch, install_mmcv
from setup_operators import CHOICES, check_choice, install_operators, operator_sources
from setup_steps import Environment, elapsed

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"onedl": ".venv", "openmmlab": ".venv-openmmlab"}
MMCV = {"onedl": "onedl-mmcv", "openmmlab": "mmcv"}
# Measured: a finished environment is 5.7 GiB with the CUDA build of torch, whose largest wheels
# lie downloaded in the temporary folder while they are unpacked.
ENVIRONMENT_GIB, DOWNLOADS_GIB = 6.5, 3.0
BUILD_PACKAGES = ("pip", "setuptools", "wheel", "ninja", "packaging", "hatchling", "editables")
TORCH_SECTION = "# --- torch"


def torch_pins(constraints: str) -> list[str]:
    """The lines of the constraints that hold for the default torch alone."""
    section = constraints.split(TORCH_SECTION, 1)[1].split("\n# ---", 1)[0]
    return [line for line in section.splitlines()[1:] if "==" in line]


def pinned(constraints: str, name: str) -> str:
    """The version that the constraints give to `name`."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", constraints, re.MULTILINE)
    if found is None:
        raise SetupError(f"requirements/constraints.txt has no line {name}==<version>")
    return found[1]


def constraints_for(constraints: str, torch: str) -> str:
    """The constraints to install with: as they are, or with another torch.

    torchvision follows torch in step (0.21 belongs to 2.6, 0.26 to 2.11) and each release of it
    demands its exact torch, so a minor version is enough for pip to find the right one.
    """
    if torch == pinned(constraints, "torch"):
        return constraints
    version = re.match(r"2\.(\d+)(?:\.\d+)?(\+\w+)?$", torch)
    if version is None or int(version[1]) < 6:
        raise SetupError(f"TORCH={torch}: need a version from 2.6 on, for example TORCH=2.8.0")
    dropped = set(torch_pins(constraints))
    lines = [line for line in constraints.splitlines() if line not in dropped]
    return "\n".join([*lines, f"torch=={torch}", f"torchvision==0.{int(version[1]) + 15}.*", ""])


def index_options(torch_index: str) -> list[str]:
    """What makes pip take torch from TORCH_INDEX=, an index's address or a folder of wheels.

    Its dependencies still come from the usual index: an index for torch has few of the pinned ones.

    Raises:
        SetupError: it is neither.
    """
    if re.match(r"(https?|file)://", torch_index):
        return ["--no-deps", "--index-url", torch_index]
    if Path(torch_index).is_dir():
        return ["--no-deps", "--no-index", "--find-links", str(Path(torch_index).resolve())]
    raise SetupError(
        f"TORCH_INDEX={torch_index}: need the address of a package index (https://...) or a folder "
        "with wheels of torch and torchvision."
    )


def project_tables(pyproject: str) -> str:
    """The parts of pyproject.toml that decide what is installed: build system and project."""
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)
    return "".join(table for table in tables if re.match(r"\[(build-system|project)\b", table))


def digest(text: str) -> str:
    """A short fingerprint of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def wanted_stamp(
    root: Path,
    flavour: str,
    python: str,
    torch: str,
    operators: str,
    previous: dict[str, str] | None,
    torch_index: str = "",
) -> dict[str, str]:
    """The stamp of the environment that is asked for.

    Args:
        root: The repository.
        flavour: `onedl` or `openmmlab`.
        python: The minor version asked for, or empty for whatever is there.
        torch: TORCH= as given, or empty: an environment made with TORCH= keeps its torch.
        operators: OPS= as given, or empty for what is there, at first torchvision.
        previous: The stamp that is there.
        torch_index: TORCH_INDEX= as given, or empty for the one the environment was made with.
    """
    constraints = (root / "requirements" / "constraints.txt").read_text()
    previous = previous or {}
    default = pinned(constraints, "torch")
    kept = previous.get("torch", "") if previous.get("torch_chosen") == "yes" else ""
    torch = torch or kept or default
    index = torch_index or previous.get("torch_index", "")
    return {
        "flavour": flavour,
        "repository": str(root),
        "python": python or previous.get("python", ""),
        "torch": torch,
        "torch_chosen": "no" if torch == default else "yes",
        "constraints": digest(constraints),
        "project": digest(project_tables((root / "pyproject.toml").read_text())),
        "kernels": digest(kernel_sources(root)),
        "operators": operators or previous.get("operators", CHOICES[0]),
        "mmcv_ops": digest(operator_sources(root)),
        # Left out where it was never set: environments made before it existed stay up to date.
        **({"torch_index": index} if index else {}),
    }


def read_stamp(folder: Path) -> dict[str, str] | None:
    """The stamp of a finished environment; None if there is none or its Python is gone."""
    try:
        stamp = json.loads((folder / "stamp.json").read_text())
    except (OSError, ValueError):
        return None
    return stamp if (folder / "bin" / "python").exists() else None


def write_stamp(folder: Path, stamp: dict[str, str]) -> None:
    """Mark the environment as finished, in one atomic step."""
    temporary = folder / "stamp.json.new"
    temporary.write_text(json.dumps(stamp, indent=1) + "\n")
    os.replace(temporary, folder / "stamp.json")


def plan(folder: Path, previous: dict[str, str] | None, wanted: dict[str, str]) -> tuple[str, str]:
    """What has to be done with the environment, and why, in words for the user.

    Returns:
        One of `nothing`, `create`, `rebuild`, `update`, and the reason.

    Raises:
        SetupError: `folder` holds an environment that this script did not make.
    """
    if not folder.exists():
        return "create", f"creating {folder.name}"
    if previous is None:
        # The log is the first thing written, so a folder without one is somebody else's.
        if not (folder / "setup.log").exists():
            raise SetupError(
                f"{folder} exists but was not made by `make env`.\n"
                f"Rename or remove it: mv {folder.name} {folder.name}-mine"
            )
        return "rebuild", f"{folder.name} is half-built (interrupted or failed): starting it afresh"
    changed = [key for key in wanted if previous.get(key) != wanted[key]]
    if not changed:
        return "nothing", f"{folder.name} is up to date"
    files = {
        "constraints": "requirements/constraints.txt",
        "project": "pyproject.toml",
        "kernels": "kernels/",
        "operators": "OPS",
        "mmcv_ops": "mmcv_ops/",
    }
    if set(changed) <= set(files):
        names = " and ".join(files[key] for key in changed)
        return "update", f"{names} changed: updating {folder.name}"
    details = ", ".join(
        f"{key} {previous.get(key)} -> {wanted[key]}"
        for key in changed
        if key not in files and key != "torch_chosen"
    )
    return "rebuild", f"{folder.name} was made for something else ({details}): rebuilding it"


def discard(folder: Path) -> None:
    """Remove an environment; renamed first, so that an interruption leaves nothing ambiguous."""
    old = folder.with_name(folder.name + ".discarded")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked(root: Path, folder: Path) -> Iterator[int]:
    """Let one process at a time work on `folder`; the others wait. Gives the lock's descriptor."""
    path = root / "build" / f"{folder.name}.lock"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another `make` that is setting up {folder.name} ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def build(
    env: Environment, wanted: dict[str, str], interpreter: Interpreter, from_scratch: bool
) -> None:
    """Install everything; what is there already costs pip a moment."""
    constraints = (env.root / "requirements" / "constraints.txt").read_text()
    flavour = wanted["flavour"]
    if from_scratch:
        env.folder.mkdir()
        env.log.touch()
        env.step(
            f"environment with Python {'.'.join(map(str, interpreter.version))}",
            [interpreter.executable, "-m", "venv", str(env.folder)],
        )
    env.constraints.write_text(constraints_for(constraints, wanted["torch"]))
    install = env.pip("install", "--progress-bar", "off", "-c", str(env.constraints))
    env.step("build tools", [*install, *BUILD_PACKAGES])
    index = wanted.get("torch_index", "")
    if index:
        title = f"torch {wanted['torch']} from {index}"
        env.step(title, [*install, *index_options(index), "torch", "torchvision"])
    size = "its dependencies" if index else "about 3 GB"
    env.step(f"torch {wanted['torch']}, {size}", [*install, "torch", "torchvision", "numpy"])
    torch = find_torch(env)
    mmcv = (MMCV[flavour], pinned(constraints, MMCV[flavour]))
    if wanted["operators"] == "compiled":
        install_mmcv(env, torch, *mmcv, interpreter)
    else:
        install_operators(env, torch, *mmcv)
    extras = f".[{flavour},dev]"
    env.step(f"mmquad{extras[1:]}", [*install, "--no-build-isolation", "-e", extras])
    install_kernels(env, torch, interpreter)
    env.step("check", [str(env.python), "-m", "mmquad.environment"])


def set_up(
    root: Path, flavour: str, python: str, torch: str, operators: str, torch_index: str = ""
) -> None:
    """Bring the environment of `flavour` to what is asked for."""
    start = time.monotonic()
    folder = root / FOLDERS[flavour]
    interpreter = choose_interpreter(python) if python else None
    minor = interpreter.minor if interpreter else ""
    if torch_index:
        index_options(torch_index)
    previous = read_stamp(folder)
    asked = (torch, operators)
    if previous and previous == wanted_stamp(root, flavour, minor, *asked, previous, torch_index):
        return
    with locked(root, folder) as lock:
        previous = read_stamp(folder)
        interpreter = interpreter or choose_interpreter("")
        # An environment that is there keeps its Python unless PYTHON= asks for another.
        minor = minor or (previous or {}).get("python", interpreter.minor)
        wanted = wanted_stamp(root, flavour, minor, *asked, previous, torch_index)
        constraints_for((root / "requirements" / "constraints.txt").read_text(), wanted["torch"])
        action, reason = plan(folder, previous, wanted)
        if action == "nothing":
            return
        print(reason, flush=True)
        scratch = action != "update"
        if scratch:
            if interpreter.minor != minor:
                interpreter = choose_interpreter(f"python{minor}")
            check_venv_modules(interpreter)
            discard(folder)
            check_disk({folder: ENVIRONMENT_GIB, Path(tempfile.gettempdir()): DOWNLOADS_GIB})
        else:
            interpreter = choose_interpreter(str(folder / "bin" / "python"))
            (folder / "stamp.json").unlink()
        given = (
            *(("PYTHON", python), ("TORCH", torch)),
            *(("OPS", operators), ("TORCH_INDEX", torch_index)),
        )
        choices = "".join(f" {name}={value}" for name, value in given if value)
        env = Environment(folder, root, f"make env FLAVOUR={flavour}{choices}", lock)
        build(env, wanted, interpreter, scratch)
        write_stamp(folder, wanted)
    print(f"{folder.name} is ready after {elapsed(time.monotonic() - start)}", flush=True)


def clean(root: Path) -> None:
    """Remove the environments that this script made. Compiled mmcv wheels stay in their cache."""
    for name in FOLDERS.values():
        folder = root / name
        with locked(root, folder):
            if folder.exists() and not (folder / "setup.log").exists():
                print(f"{name} was not made by `make env`: left alone")
            else:
                discard(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flavour", default="onedl", help="onedl or openmmlab")
    parser.add_argument("--python", default="", help="interpreter to build with")
    parser.add_argument("--torch", default="", help="torch version, e.g. 2.8.0")
    parser.add_argument("--ops", default="", help="torchvision or compiled: mmcv's operators")
    parser.add_argument("--torch-index", default="", help="index or folder torch comes from")
    parser.add_argument("--clean", action="store_true", help="remove the environments")
    arguments = parser.parse_args()
    # An ended terminal session or `kill` must end the running pip too, as Ctrl-C does.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        if arguments.flavour not in FOLDERS:
            raise SetupError(f"FLAVOUR={arguments.flavour}: need one of {', '.join(FOLDERS)}.")
        check_choice(arguments.ops)
        if arguments.clean:
            clean(ROOT)
        else:
            set_up(
                *(ROOT, arguments.flavour, arguments.python, arguments.torch, arguments.ops),
                arguments.torch_index,
            )
    except SetupError as error:
        print(f"\nSet-up stopped.\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The next run starts this environment afresh.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
