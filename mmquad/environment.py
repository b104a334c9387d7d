"""Check that the installed packages fit each other: `python -m mmquad.environment`.

Several mismatches surface only as an obscure error in the middle of a run. Each check here names
one of them and its remedy. Nothing but torch is needed to import this module.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from mmquad import __version__
from mmquad.flavours import (
    MMCV_OPERATORS,
    MODULES,
    WINDOWS,
    Installed,
    flavour,
    flavour_of,
    installed,
)

TORCH_WINDOW = ">=2.6"
COMPILED = "compiled"
# What each task imports beyond torch.
TASKS: dict[str, tuple[str, ...]] = {
    "det": ("mmengine", "mmcv", "mmdet", "pycocotools", "torchvision"),
    "seg": ("mmengine", "mmcv", "mmseg", "ftfy", "regex"),
    "cls": ("mmengine", "mmcv", "mmpretrain", "torchvision"),
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with the environment.

    Attributes:
        severity: `error` if a run will fail, `warning` if only some runs will.
        what: What is wrong, with the versions involved.
        fix: What to do about it, in one line.
    """

    severity: Literal["error", "warning"]
    what: str
    fix: str


def import_error(module: str) -> BaseException | None:
    """Import `module`: None if that works, the exception if not."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken binary package may raise anything
        return error
    return None


def _reinstall(distribution: str, version: str) -> str:
    return (
        "pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall "
        f"{distribution}=={version} (compiles for about 15 minutes)"
    )


def check_owners(found: Installed) -> Iterable[Problem]:
    """No module comes from two distributions, and all are of one flavour."""
    by_flavour: dict[str, list[str]] = {}
    for module in MODULES:
        owners = found.owners.get(module, ())
        if len(owners) > 1:
            yield Problem(
                "error",
                f"{' and '.join(owners)} both install the module {module}: "
                "one has overwritten files of the other",
                f"`pip uninstall -y {' '.join(owners)}`, then install one of them",
            )
        for distribution in owners:
            by_flavour.setdefault(flavour_of(module, distribution), []).append(distribution)
    by_flavour.pop("none", None)
    if len(by_flavour) > 1:
        onedl, originals = sorted(by_flavour["onedl"]), sorted(by_flavour["openmmlab"])
        yield Problem(
            "error",
            f"two flavours of OpenMMLab are mixed: {', '.join(onedl)} beside "
            f"{', '.join(originals)}",
            f"`pip uninstall -y {' '.join(onedl + originals)}`, then install one flavour",
        )


def check_versions(found: Installed) -> Iterable[Problem]:
    """Each package is inside the window that mmquad is written for."""
    windows = {"torch": ("torch", TORCH_WINDOW), **WINDOWS.get(flavour(found), {})}
    for module, (distribution, window) in windows.items():
        version = found.versions.get(distribution)
        if version is not None and not SpecifierSet(window).contains(version, prereleases=True):
            yield Problem(
                "error",
                f"{distribution} {version} is outside {window} (module {module})",
                f"pip install '{distribution}{window}'",
            )


def check_present(found: Installed, task: str | None) -> Iterable[Problem]:
    """What the task imports is there; without a task, what the installed libraries import."""
    name = flavour(found)
    if task is None and name == "none":
        yield Problem(
            "warning",
            "no OpenMMLab packages: the layers and scans work, models and tools do not",
            "make env, or: pip install 'mmquad[onedl]' (docs/installation.md)",
        )
    library = {"det": "mmdet", "seg": "mmseg", "cls": "mmpretrain"}
    tasks = [task] if task else [each for each in TASKS if found.owners.get(library[each])]
    for each in tasks:
        missing = [module for module in TASKS[each] if not found.owners.get(module)]
        if missing:
            extra = "openmmlab" if name == "openmmlab" else each
            yield Problem(
                "error",
                f"missing for the task {each}: {', '.join(missing)}",
                f"pip install 'mmquad[{extra}]' (docs/installation.md has the order)",
            )


def check_mmcv_ops(
    found: Installed, task: str | None, probe: Callable[[str], BaseException | None]
) -> Iterable[Problem]:
    """mmcv has operators: torchvision's, or compiled ones that were compiled for this torch."""
    distribution = found.owner("mmcv")
    if distribution is None:
        return
    error = probe("mmcv._ext")
    if error is None:
        return
    if MMCV_OPERATORS in str(error) and not isinstance(error.__cause__, ModuleNotFoundError):
        return  # torchvision does not fit torch, which check_torchvision says
    # The forks' mmseg runs without the operations; the original imports them from the start.
    needed = task in (None, "det") or flavour(found) == "openmmlab"
    severity: Literal["error", "warning"] = "error" if needed else "warning"
    name, window = WINDOWS.get(flavour(found), WINDOWS["onedl"])["mmcv"]
    version = found.versions.get(name, re.sub(r"[^\d.].*", "", window.lstrip("=>")))
    if isinstance(error, ModuleNotFoundError) and error.name == "mmcv._ext":
        yield Problem(
            severity,
            f"{distribution} has no operators: it was built without torch in sight, and "
            f"{MMCV_OPERATORS} is not there to bring them from torchvision",
            f"from the checkout: pip install ./mmcv_ops; or compile: {_reinstall(name, version)}",
        )
    elif MMCV_OPERATORS in str(error):
        yield Problem(
            severity,
            f"mmcv's operators come from torchvision ({MMCV_OPERATORS}), which is not installed",
            "pip install torchvision, from the place torch came from",
        )
    else:
        torch_version = found.versions.get("torch", "?")
        yield Problem(
            severity,
            f"the operations of {distribution} do not load; most likely they were compiled for "
            f"another torch than {torch_version}: {type(error).__name__}: {str(error)[:160]}",
            _reinstall(name, version),
        )


def check_mmcv_cuda(
    found: Installed, task: str | None, compiled_for: Callable[[], tuple[bool, str, str]]
) -> Iterable[Problem]:
    """Where there is a GPU, detection finds its operations compiled for CUDA."""
    if found.owner("mmcv") is None or task not in (None, "det"):
        return
    gpu, cuda, provider = compiled_for()
    if gpu and cuda == "not available":
        yield Problem(
            "warning",
            f"there is a GPU, but mmcv's operations ({provider}) were compiled for the CPU alone: "
            "detection fails on the GPU (segmentation and classification do not need them)",
            "install the CUDA toolkit of torch's major CUDA version (nvcc), then reinstall mmcv"
            if provider == COMPILED
            else "install the torchvision of this torch, from the place torch came from",
        )


def check_torchvision(
    found: Installed, probe: Callable[[str], BaseException | None]
) -> Iterable[Problem]:
    """torchvision, if it is there, imports: mmengine's Runner stops on one that does not."""
    error = probe("torchvision")
    if error is not None and not isinstance(error, ModuleNotFoundError):
        versions = [f"{name} {found.versions.get(name, '?')}" for name in ("torchvision", "torch")]
        yield Problem(
            "error",
            f"{' does not match '.join(versions)}: {type(error).__name__}: {str(error)[:160]}",
            "pip uninstall -y torchvision, then install the release that belongs to this torch "
            "from the place torch came from",
        )


def check_pkg_resources(found: Installed, has_module: Callable[[str], bool]) -> Iterable[Problem]:
    """The original mmengine looks packages up with pkg_resources, gone from setuptools 82 on."""
    if flavour(found) == "openmmlab" and not has_module("pkg_resources"):
        yield Problem(
            "error",
            f"setuptools {found.versions.get('setuptools', '(absent)')} has no pkg_resources, "
            "which the original mmengine needs to inherit configs",
            "pip install 'setuptools<82'",
        )


def _has_module(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def mmcv_operators() -> str:
    """Where mmcv's operators come from: `compiled`, torchvision with its version, or `none`."""
    if import_error("mmcv._ext") is not None:
        return "none"
    return getattr(importlib.import_module("mmcv._ext"), "PROVIDER", COMPILED)


def _compiled_for() -> tuple[bool, str, str]:
    """Whether torch sees a GPU, the CUDA version of mmcv's operators, and where they come from."""
    import torch

    provider = mmcv_operators()
    if not torch.cuda.is_available() or provider == "none":
        return False, "", provider
    cuda = importlib.import_module("mmcv._ext").get_compiling_cuda_version()
    return True, cuda, provider


def find_problems(task: str | None = None) -> list[Problem]:
    """Everything wrong with the running environment.

    Args:
        task: `det`, `seg` or `cls` to check what that task needs; None for what is installed.

    Example:
        >>> [problem.fix for problem in find_problems("det")]  # doctest: +SKIP
        ["pip install 'mmquad[det]' (docs/installation.md has the order)"]
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task must be one of {sorted(TASKS)} or None, got {task!r}")
    found = installed()
    return [
        *check_owners(found),
        *check_versions(found),
        *check_present(found, task),
        *check_pkg_resources(found, _has_module),
        *check_torchvision(found, import_error),
        *check_mmcv_ops(found, task, import_error),
        *check_mmcv_cuda(found, task, _compiled_for),
    ]


def report(problems: Iterable[Problem]) -> str:
    """A table of the versions that matter, and the problems with their remedies."""
    found = installed()
    rows = [
        ("python", platform.python_version(), sys.executable),
        ("mmquad", __version__, str(Path(__file__).parent)),
    ]
    for module in ("torch", "torchvision", "numpy", *MODULES, "pycocotools"):
        distribution = found.owner(module)
        version = found.versions[distribution] if distribution else "not installed"
        rows.append((module, version, distribution or ""))
    if found.owner("mmcv"):
        operators = mmcv_operators()
        by = f"{MMCV_OPERATORS} {found.versions.get(MMCV_OPERATORS)}; no GPU has run it yet"
        source = "" if operators in (COMPILED, "none") else by
        rows.append(("operators", operators, source))
    try:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
        rows.append(("device", gpu, f"torch built for CUDA {torch.version.cuda or '(none)'}"))
    except ImportError:
        pass
    rows.append(("flavour", flavour(found), ""))
    lines = [f"{name:12} {version:16} {source}".rstrip() for name, version, source in rows]
    listed = list(problems)
    lines.append("")
    for problem in listed:
        lines += [f"{problem.severity}: {problem.what}", f"  fix: {problem.fix}"]
    lines.append(f"{len(listed)} problem(s) found." if listed else "No problems found.")
    return "\n".join(lines)


def main() -> int:
    """Print the report; 1 if there is an error among the problems."""
    problems = find_problems()
    print(report(problems))
    return int(any(problem.severity == "error" for problem in problems))


if __name__ == "__main__":
    sys.exit(main())
