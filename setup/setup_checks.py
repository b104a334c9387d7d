"""What has to be true before `make env` starts working, each failure with what to do about it.

Standard library only, and readable by Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 10), (3, 12)
CANDIDATES = ("python3.11", "python3.12", "python3.10", "python3")
GIB = 2**30

PROBE = """
import importlib.util, json, os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
missing = [m for m in ("venv", "ensurepip") if importlib.util.find_spec(m) is None]
print(json.dumps([list(sys.version_info[:3]), sys.executable, missing, os.path.exists(header)]))
"""


class SetupError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


class Interpreter(NamedTuple):
    """A Python that ran: its version and what an environment made from it would lack."""

    version: tuple[int, int, int]
    executable: str
    missing_modules: list[str]
    has_headers: bool

    @property
    def minor(self) -> str:
        """The version as `3.11`."""
        return f"{self.version[0]}.{self.version[1]}"


def probe(command: str) -> Interpreter | None:
    """Run `command` and ask it about itself; None if it does not run.

    A name on PATH proves nothing: pyenv puts a shim there for every version it has, and the shim
    of a version that is not selected only prints an error.
    """
    try:
        done = subprocess.run(
            [command, "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        )
        version, executable, missing, headers = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(tuple(version), executable, missing, headers)


def choose_interpreter(
    requested: str, ask: Callable[[str], Interpreter | None] = probe
) -> Interpreter:
    """The interpreter to build with: `requested` if given, else the first candidate that fits.

    Raises:
        SetupError: `requested` does not run or is outside 3.10-3.12, or nothing fits.
    """
    window = f"{OLDEST[0]}.{OLDEST[1]}-{NEWEST[0]}.{NEWEST[1]}"
    if requested:
        found = ask(requested)
        if found is None:
            raise SetupError(
                f"PYTHON={requested} does not run.\n"
                f"Set PYTHON= to a working Python {window}, e.g. PYTHON=/usr/bin/python3.11"
            )
        if not OLDEST <= found.version[:2] <= NEWEST:
            age = "old" if found.version[:2] < OLDEST else "new"
            raise SetupError(
                f"Python too {age}: need {window}, got {found.minor} (PYTHON={requested}).\n"
                "Set PYTHON= to another interpreter, or leave it out."
            )
        return found
    seen = []
    for command in CANDIDATES:
        found = ask(command)
        if found is None:
            continue
        if OLDEST <= found.version[:2] <= NEWEST:
            return found
        seen.append((found.version[:2], f"{command} is {found.minor}"))
    if not seen:
        raise SetupError(
            f"No Python found: none of {', '.join(CANDIDATES)} runs.\n"
            f"Install Python {window}, or set PYTHON=/path/to/python."
        )
    age = "old" if max(version for version, _ in seen) < OLDEST else "new"
    raise SetupError(
        f"Python too {age}: need {window}, got {', '.join(text for _, text in seen)}.\n"
        "Install one of these versions, or set PYTHON=/path/to/python."
    )


def check_venv_modules(python: Interpreter) -> None:
    """Debian and Ubuntu split `venv` and `ensurepip` off into a package of their own."""
    if python.missing_modules:
        raise SetupError(
            f"{python.executable} has no {' and no '.join(python.missing_modules)} module, so it "
            "cannot make environments.\n"
            f"On Debian or Ubuntu: sudo apt install python{python.minor}-venv. "
            "Or set PYTHON= to another Python."
        )


def check_build_tools(
    python: Interpreter, which: Callable[[str], str | None] = shutil.which
) -> None:
    """Compiling mmcv needs the compiler that torch will call and the headers of this Python."""
    compiler = (os.environ.get("CXX") or "c++").split()[0]  # of `ccache g++` the first word
    if which(compiler) is None:
        raise SetupError(
            f"No C++ compiler: `{compiler}` is not on PATH, and mmcv has to be compiled.\n"
            "On Debian or Ubuntu: sudo apt install g++ (or set CXX= to your compiler). "
            "Or leave OPS=compiled out, or give a ready mmcv wheel: PIP_FIND_LINKS=/folder"
        )
    if not python.has_headers:
        raise SetupError(
            f"No Python.h for {python.executable}, and mmcv has to be compiled.\n"
            f"On Debian or Ubuntu: sudo apt install python{python.minor}-dev. "
            "Or set PYTHON= to a Python that has its headers."
        )


def existing_parent(path: Path) -> Path:
    """`path` or its closest ancestor that exists."""
    while not path.exists():
        path = path.parent
    return path


def check_disk(needs: dict[Path, float], free_bytes: Callable[[Path], int] | None = None) -> None:
    """Compare the GiB that each folder will need with what its filesystem has free.

    Folders on one filesystem share its free space, so their needs are added up.

    Raises:
        SetupError: a filesystem has less than is needed; the message has both figures.
    """
    free_bytes = free_bytes or (lambda path: shutil.disk_usage(path).free)
    by_device: dict[int, list[tuple[Path, float]]] = {}
    for path, gib in needs.items():
        parent = existing_parent(path)
        by_device.setdefault(parent.stat().st_dev, []).append((parent, gib))
    for entries in by_device.values():
        needed = sum(gib for _, gib in entries)
        free = free_bytes(entries[0][0]) / GIB
        if free < needed:
            places = " and ".join(sorted({str(path) for path, _ in entries}))
            raise SetupError(
                f"Not enough disk space for {places}: about {needed:.1f} GiB needed, "
                f"{free:.1f} GiB free.\n"
                "Free some space, or point TMPDIR (downloads, compilation) to a larger disk."
            )
