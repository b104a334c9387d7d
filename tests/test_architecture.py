"""Rules of the code base that no other test would notice: layers, imports, examples."""

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmquad"

# What each part may import besides the standard library and itself.
MAY_IMPORT = {
    "ops": {"torch", "triton"},
    "scans": {"torch", "mmquad.ops"},
    "layers": {"torch", "mmquad.ops", "mmquad.scans"},
    "checkpoints": {"torch", "numpy"},
    "backbones": {
        *("torch", "mmengine", "mmquad.registry", "mmquad.compat", "mmquad.checkpoints"),
        *("mmquad.ops", "mmquad.scans", "mmquad.layers"),
    },
    "necks": {"torch", "mmquad.registry"},
}
# Commands of the package itself; everything else reports through return values, logs and errors.
COMMANDS = {"environment.py", "info.py"}
GRAB_BAGS = {"utils", "util", "common", "misc", "helpers"}


def modules(*parts: str) -> list[Path]:
    return sorted(path for part in parts for path in (PACKAGE / part).rglob("*.py"))


def imported_modules(tree: ast.AST, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or ""


def is_part_of(module: str, allowed: str) -> bool:
    return module == allowed or module.startswith(f"{allowed}.")


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", modules(*MAY_IMPORT), ids=relative)
def test_layers_import_only_what_lies_below(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0]
    allowed = {*MAY_IMPORT[part], f"mmquad.{part}"}
    foreign = [
        name
        for name in imported_modules(ast.parse(path.read_text()), path)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(is_part_of(name, each) for each in allowed)
    ]
    assert foreign == [], f"{relative(path)} may import {sorted(allowed)}"


@pytest.mark.parametrize("path", modules("."), ids=relative)
def test_no_prints_grab_bags_or_bare_excepts(path: Path) -> None:
    assert path.stem not in GRAB_BAGS, "name the module after what is in it"
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "print":
            assert relative(path) in COMMANDS, f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=600
    )


def test_importing_the_ops_needs_torch_only_and_changes_nothing() -> None:
    done = run_python(
        "import os, random, sys\n"
        "import numpy, torch\n"
        "def state():\n"
        "    return (torch.get_rng_state().tolist(), random.getstate(), dict(os.environ),\n"
        "            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),\n"
        "            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic,\n"
        "            torch.get_float32_matmul_precision(), list(sys.path),\n"
        "            torch.cuda.is_initialized())\n"
        "before, loaded = state(), set(sys.modules)\n"
        "import mmquad, mmquad.ops, mmquad.scans, mmquad.layers, mmquad.checkpoints\n"
        "assert state() == before\n"
        "libraries = {'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'mmquad_kernels'}\n"
        "assert not libraries & set(sys.modules) - loaded\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_importing_the_package_does_not_import_torch() -> None:
    done = run_python("import sys, mmquad; assert 'torch' not in sys.modules; mmquad.__version__")
    assert done.returncode == 0, done.stderr


EXAMPLES = modules("ops", "scans", "layers", "backbones", "checkpoints", "analysis")


@pytest.mark.parametrize("path", [p for p in EXAMPLES if ">>>" in p.read_text()], ids=relative)
def test_examples_in_docstrings_run(path: Path) -> None:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def public_functions() -> Iterator[tuple[str, object]]:
    for name in ("ops", "scans"):
        package = importlib.import_module(f"mmquad.{name}")
        yield from ((f"{name}.{each}", getattr(package, each)) for each in package.__all__)


def test_public_ops_have_an_example() -> None:
    without = [name for name, thing in public_functions() if ">>>" not in (thing.__doc__ or "")]
    # Abstract, and used only through a backbone's or mixer's example.
    assert set(without) <= {"scans.FixedScan", "scans.QuadScan"}
