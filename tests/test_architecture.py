"""Rules of the code base that no other test would notice: layers, imports, examples."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmquad"

# What each part may import of this package besides itself; the parts stand in an order in which
# everything named has come before, so there is no circle.
MAY_IMPORT_OF_OURS = {
    "errors": (),
    "flavours": (),
    "checkpoints": (),
    "compat": ("checkpoints",),
    "registry": (),
    "ops": (),
    "scans": ("ops",),
    "layers": ("ops", "scans"),
    "backbones": ("ops", "scans", "layers", "checkpoints", "compat", "registry"),
    "necks": ("registry",),
    "datasets": ("registry",),
    "search": ("scans", "layers"),
    "releases": ("backbones", "checkpoints", "compat", "registry"),
    "analysis": ("ops", "scans", "layers", "backbones", "search", "datasets"),
    "optim": ("layers", "backbones", "registry"),
    "checks": ("checkpoints", "errors"),
    "hooks": ("backbones", "checkpoints", "checks", "search", "analysis", "errors", "registry"),
    "environment": ("flavours",),
    "info": ("ops", "environment"),
    "engine": ("checkpoints", "checks", "compat", "environment", "errors"),
    "inference": ("engine", "checks", "analysis", "checkpoints", "compat", "errors"),
    "export": ("ops", "scans", "layers", "backbones"),
    "publishing": ("backbones", "checkpoints", "compat", "engine", "inference", "errors"),
    "own_data": ("checks", "engine", "errors"),
    "cli": (
        "analysis",
        "checkpoints",
        "checks",
        "engine",
        "errors",
        "export",
        "inference",
        "info",
        "own_data",
        "publishing",
        "releases",
    ),
    "__main__": ("cli",),
}
# What the lower parts may import of others; the rest may use the host libraries.
MAY_IMPORT_OF_OTHERS = {
    "ops": {"torch", "triton"},
    "scans": {"torch"},
    "layers": {"torch"},
    "checkpoints": {"torch", "safetensors", "huggingface_hub"},
    "backbones": {"torch", "mmengine", "typing_extensions"},
    "necks": {"torch"},
    "releases": {"torch", "yaml"},
    "errors": set(),
}
# Commands of the package itself; everything else reports through return values, logs and errors.
COMMANDS = {"environment.py", "info.py"} | {f"cli/{p.name}" for p in (PACKAGE / "cli").glob("*.py")}
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


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", [p for p in modules(".") if p != PACKAGE / "__init__.py"], ids=relative
)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    ours = {"mmquad.__version__", *(f"mmquad.{each}" for each in (part, *MAY_IMPORT_OF_OURS[part]))}
    foreign = []
    for name in imported_modules(ast.parse(path.read_text()), path):
        library = name.split(".")[0]
        if library == "mmquad":
            allowed = name == "mmquad" or any(is_part_of(name, each) for each in ours)
        else:
            others = MAY_IMPORT_OF_OTHERS.get(part)
            allowed = library in sys.stdlib_module_names or others is None or library in others
        if not allowed:
            foreign.append(name)
    assert foreign == [], f"{relative(path)} may import {sorted(ours)}"


def test_the_parts_are_listed_in_an_order_without_circles() -> None:
    parts = [part_of(path) for path in modules(".") if path != PACKAGE / "__init__.py"]
    assert set(parts) == set(MAY_IMPORT_OF_OURS)
    before: set[str] = set()
    for part, allowed in MAY_IMPORT_OF_OURS.items():
        assert set(allowed) <= before, part
        before.add(part)


PARTS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)


@pytest.mark.parametrize("folder", PARTS, ids=relative)
def test_every_folder_says_what_lives_in_it(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_importing_a_part_loads_no_heavy_library() -> None:
    """These take a second or more to import; what needs one imports it where it is used."""
    names = [".".join(("mmquad", *folder.relative_to(PACKAGE).parts)) for folder in PARTS]
    done = run_python(
        "import importlib, os, sys, torch\n"
        "heavy = 'matplotlib mmcv mmdet mmseg mmpretrain onnx onnxruntime scipy'.split()\n"
        "heavy += ['torch._dynamo']\n"
        f"for name in {names}:\n"
        "    if os.fork() == 0:\n"  # each part on its own, torch imported once
        "        importlib.import_module(name)\n"
        "        loaded = [each for each in heavy if each in sys.modules]\n"
        "        print(name, *loaded, flush=True) if loaded else None\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0, name\n",
        warnings="ignore",  # those of the host libraries
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("path", modules("."), ids=relative)
def test_no_prints_grab_bags_or_bare_excepts(path: Path) -> None:
    assert path.stem not in GRAB_BAGS, "name the module after what is in it"
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "print":
            assert relative(path) in COMMANDS, f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"


def run_python(code: str, warnings: str = "error") -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", warnings, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


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


# Those that run: some only show a call that takes files or time.
RUNNING = re.compile(r">>>(?!.*doctest: \+SKIP)")
EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if RUNNING.search(path.read_text())]


@pytest.mark.parametrize("path", EXAMPLES, ids=relative)
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
    assert set(without) <= {"scans.FixedScan", "scans.QuadScan", "scans.Scan"}


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their bare names, and refuses the second."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []
