"""mmcv's own wrappers, with operators served by torchvision and, where there are any, compiled."""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mmcv_ops_torchvision import extension

mmcv = pytest.importorskip("mmcv")
pytest.importorskip("mmcv.ops")

SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)


@contextlib.contextmanager
def serving(operators) -> Iterator[None]:
    """Let everything in mmcv.ops call `operators`, whatever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("mmcv.ops.") and hasattr(module, "ext_module"):
                patch.setattr(module, "ext_module", operators)
        yield


@pytest.fixture
def served() -> Iterator[None]:
    """mmcv.ops runs on the operators of this repository."""
    with serving(extension):
        yield


def wheel_for_this_python() -> Path | None:
    """A compiled mmcv of the installed version among the ready wheels (PIP_FIND_LINKS)."""
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in sorted(Path(folder).glob(f"*mmcv-{mmcv.__version__}-*.whl")):
            if f"-cp{sys.version_info[0]}{sys.version_info[1]}-" in wheel.name:
                return wheel
    return None


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> ModuleType:
    """The compiled operators: of the installed mmcv, or of a wheel that is not installed."""
    installed = importlib.import_module("mmcv._ext")
    if str(installed.__file__).endswith(SUFFIXES):
        return installed
    wheel = wheel_for_this_python()
    if wheel is None:
        pytest.skip("no compiled mmcv to compare with")
    with zipfile.ZipFile(wheel) as archive:
        binaries = [name for name in archive.namelist() if name.endswith(SUFFIXES)]
        path = archive.extract(binaries[0], tmp_path_factory.mktemp("compiled"))
    spec = importlib.util.spec_from_file_location("_ext", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"the compiled mmcv at hand is for another torch: {error}")
    return module


@pytest.fixture
def both(compiled) -> Callable:
    """Runs a function with both kinds of operators: `both(f).served` and `.compiled`."""

    def run(function: Callable) -> SimpleNamespace:
        results = {}
        for kind, operators in (("served", extension), ("compiled", compiled)):
            with serving(operators):
                results[kind] = function()
        return SimpleNamespace(**results)

    return run


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)
