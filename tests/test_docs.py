"""What the pages say holds: links, files, commands with their options, names in code."""

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc import locate
from textwrap import dedent

import mmdet.registry as mmdet_registry
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmquad import registry
from mmquad.cli.main import command_parser
from mmquad.compat import load_config

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "configs").glob("*/*/README.md")),
]
EXAMPLE = "rowmamba"  # made by the recipes of CONTRIBUTING.md; test_map.py tries it
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
REGISTRIES = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [dedent(code) for each, code in FENCE.findall(page.read_text()) if each == language]


def anchors(page: Path) -> set[str]:
    """The names that the headings of a page get: GitHub's rule."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.strip().replace(" ", "-") for word in words}


def commands(page: Path) -> Iterator[list[str]]:
    """Shell commands of the page's bash blocks and of its indented ones, as words."""
    indented = r"^    +((?:python|bash|make|mmquad|tools/|benchmarks/|pytest) ?.+(?:\\\n.+)*)"
    found = blocks(page, "bash") + re.findall(indented, page.read_text(), re.MULTILINE)
    for line in "\n".join(found).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):  # variables of the command
            words = words[1:]
        if words:
            yield words


def command_options(name: str) -> set[str]:
    """The options of a command of ``mmquad``."""
    return {option for action in command_parser(name)._actions for option in action.option_strings}


def options(tool: Path) -> set[str]:
    """The options of a tool, or of the tool that a script starts."""
    if tool.suffix == ".sh" and tool.name != "check_gpu.sh":
        kind = "test" if "_test" in tool.name else "train"
        tool = ROOT / "tools" / f"{kind}.py"
    text = tool.read_text()
    if command := re.search(r'run_script\("([\w-]+)"', text):
        return command_options(command[1])
    # Tools that share options have them in the package.
    for module in re.findall(
        r"^from (mmquad\.engine\.\w+|benchmarks\.options) import", text, re.MULTILINE
    ):
        text += (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    return set(re.findall(r"--[a-z][\w-]+", text)) | {"--help"}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    links = re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text)
    for link in (first or second for first, second in links):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@cache
def sources() -> str:
    """All code that reads environment variables."""
    files = (
        path
        for part in ("mmquad", "tools", "benchmarks", "setup", "kernels")
        for path in (ROOT / part).rglob("*")
    )
    return "".join(p.read_text() for p in files if p.suffix in (".py", ".sh", ".cpp", ".h"))


@each_page
def test_files_and_variables_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(
        r"(?<![\w/.])(?:tools|configs|docs|kernels|mmquad|tests|benchmarks|setup)/[\w./-]*\w", text
    )
    missing = {n for n in named if not (ROOT / n).exists() and EXAMPLE not in n.lower()}
    assert missing <= {"mmquad/wheels"}  # of the user's cache
    assert all(name in sources() for name in re.findall(r"MMQUAD_\w+", text))


@each_page
def test_commands_have_their_tools_and_options(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    variables = set(re.findall(r"^#? *([A-Z]+) *\??=", (ROOT / "Makefile").read_text(), re.M))
    for words in commands(page):
        words = words[1:] if words[0] in ("python", "bash") else words
        if words[0] == "make":
            assert words[1] in targets, words
            given = {word.partition("=")[0] for word in words[2:]}
            assert given <= variables, words
        elif words[0] == "mmquad":
            top = {"--completion", "--help"}
            known = top if words[1].startswith("-") else command_options(words[1])
            assert {word for word in words if word.startswith("--")} <= known, words
        elif words[0] == "-m":
            found = importlib.util.find_spec(words[1])
            assert found, words
            if words[1].startswith("benchmarks."):
                known = options(Path(str(found.origin)))
                assert {word for word in words if word.startswith("--")} <= known, words
        elif words[0].startswith(("tools/", "benchmarks/")):
            known = options(ROOT / words[0])
            assert {word for word in words if word.startswith("--")} <= known, words
        elif words[0] == "pytest":
            files = words[1 : words.index("-k")] if "-k" in words else words[1:]
            assert all((ROOT / word).exists() for word in files), words
        else:
            assert words[0] in ("pip", "cp", "cd", "git", "ruff", "--cfg-options"), words


@each_page
def test_code_names_what_exists(page: Path) -> None:
    text = page.read_text()
    names = set(re.findall(r"mmquad(?:\.[a-zA-Z]\w*)+", text))
    for name in (each for each in names if EXAMPLE not in each.lower()):
        is_logger = name == "mmquad.ops.native"
        assert is_logger or any(name in each for each in REGISTRIES) or locate(name), name
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), code


def config_snippets() -> list[str]:
    """Python blocks that only set keys."""
    found = [code for page in PAGES for code in blocks(page, "python")]
    return [c for c in found if all(isinstance(node, ast.Assign) for node in ast.parse(c).body)]


@pytest.mark.parametrize("code", config_snippets(), ids=lambda code: code.split(" ", 1)[0])
def test_config_snippets_do_what_they_say(code: str, tmp_path: Path) -> None:
    base = ROOT / "configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py"
    hooks = load_config(str(base)).custom_hooks
    path = tmp_path / "snippet.py"
    path.write_text(code if "_base_ =" in code else f'_base_ = "{base}"\n{code}')
    cfg = load_config(str(path))
    assert "_base_ =" in code or cfg.custom_hooks[: len(hooks)] == hooks
    used = repr({key: cfg[key] for key in cfg if key != "vis_backends"})  # bases copy these
    types = re.findall(r'type="([\w.]+)"', code)
    # Two lines may set the same key, as alternatives: the last one counts.
    assert all(name in used or code.count("optim_wrapper =") == 2 for name in types)


def test_the_config_of_the_readme_spares_what_must_not_decay(tmp_path: Path) -> None:
    code = next(code for code in blocks(ROOT / "README.md", "python") if "_base_ =" in code)
    path = tmp_path / "mine.py"
    path.write_text(code)
    cfg = load_config(str(path))
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes without values
        model = mmdet_registry.MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {group["params"][0]: group["weight_decay"] for group in optimizer.param_groups}
    by_name = {name: decay[p] for name, p in model.named_parameters() if p in decay}
    state_space = ("A_log", "D_skip", "dt_bias")
    found = {name.rpartition(".")[2]: value for name, value in by_name.items()}
    assert {each: found[each] for each in state_space} == dict.fromkeys(state_space, 0.0)
    spared = {name for name, value in by_name.items() if value == 0.0}
    assert all(name in spared for name in by_name if name.endswith(state_space) or "norm" in name)
    assert by_name["backbone.stages.0.0.mixer.in_proj.weight"] == 0.05
    assert (type(optimizer).__name__, optimizer.defaults["lr"]) == ("AdamW", 1e-4)
