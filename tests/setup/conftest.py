"""The set-up's modules, and parts of an environment that nothing is installed into."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def setup():
    """The set-up modules, imported as `python setup/setup_env.py` imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "setup"))
        names = ("checks", "steps", "mmcv", "operators", "kernels", "env")
        yield SimpleNamespace(**{n: importlib.import_module(f"setup_{n}") for n in names})


@pytest.fixture
def interpreter(setup) -> Callable[..., Any]:
    """Makes an interpreter that was found."""

    def make(version: tuple[int, int, int] = (3, 11, 7), missing=(), headers: bool = True) -> Any:
        return setup.checks.Interpreter(version, "/usr/bin/python", list(missing), headers)

    return make


@pytest.fixture
def environment(setup, tmp_path: Path) -> Any:
    """An environment, of which there is the folder only."""
    (tmp_path / "venv").mkdir()
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    return setup.steps.Environment(tmp_path / "venv", tmp_path, "make env FLAVOUR=onedl", lock)
