"""The documentation site: every page is on it, links between files become links between pages."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def navigation() -> list[str]:
    (line,) = re.findall(r"^nav:\n(.*)", (ROOT / "mkdocs.yml").read_text(), re.DOTALL | re.M)
    return [
        page for section in yaml.safe_load(line) for pages in section.values() for page in pages
    ]


def test_every_page_is_in_the_navigation_once(hooks):
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    pages += [page for page in hooks.OUTSIDE.values() if not page.startswith("configs/")]
    assert sorted(navigation()) == sorted(pages), "add the page to nav in mkdocs.yml"


@pytest.mark.parametrize(
    ("source", "page", "text", "expected"),
    [
        # the page of docs/, or its anchor, stays where it was
        ("docs/scans.md", "scans.md", "[a](notation.md)", "[a](notation.md)"),
        ("docs/scans.md", "scans.md", "[a](#quad)", "[a](#quad)"),
        ("docs/scans.md", "scans.md", "[a](https://x.org/y)", "[a](https://x.org/y)"),
        # pages that lie elsewhere in the repository
        ("docs/scans.md", "scans.md", "[a](../README.md#models)", "[a](index.md#models)"),
        ("README.md", "index.md", "[a](docs/scans.md#quad)", "[a](scans.md#quad)"),
        ("README.md", "index.md", "![a](docs/images/b.png)", "![a](images/b.png)"),
        ("README.md", "index.md", '<img src="docs/images/b.png">', '<img src="images/b.png">'),
        (
            "docs/reproduce.md",
            "reproduce.md",
            "[AP](../configs/mmdet/vim/README.md)",
            "[AP](configs/mmdet/vim.md)",
        ),
        # code becomes its entry in the API reference
        (
            "docs/scans.md",
            "scans.md",
            "[`CrossScan`](../mmquad/scans/cross.py)",
            "[`CrossScan`](api/scans.md#mmquad.scans.cross)",
        ),
        (
            "configs/mmdet/vim/README.md",
            "configs/mmdet/vim.md",
            "[a](../../../mmquad/ops/__init__.py)",
            "[a](../../api/ops.md#mmquad.ops)",
        ),
        # what the site does not hold stays as its path
        ("docs/scans.md", "scans.md", "[tests/scans](../tests/scans)", "`tests/scans`"),
        ("docs/a.md", "a.md", "[the table](../configs/b.yml)", "the table (`configs/b.yml`)"),
        # code is left alone
        ("docs/a.md", "a.md", "```\n[a](../x.py)\n```", "```\n[a](../x.py)\n```"),
    ],
)
def test_links_follow(hooks, source: str, page: str, text: str, expected: str):
    assert hooks.follow_links(text, source, page) == expected


def test_every_module_is_in_the_reference(hooks):
    listed = [module for modules in hooks.api_parts().values() for module in modules]
    paths = set((ROOT / "mmquad").rglob("*.py")) - {ROOT / "mmquad/__init__.py"}
    names = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths}
    assert sorted(listed) == sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_other_host(tmp_path: Path):
    """About ten seconds of processor time: all modules are read and rendered."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    loaded = [
        found
        for page in pages
        for found in re.findall(
            r"<(?:script|img|link|iframe)[^>]*=\"?https?://[^>]*>", page.read_text()
        )
        if 'rel="canonical"' not in found
    ]
    assert loaded == []
    selective = (tmp_path / "api" / "ops.html").read_text()
    assert 'id="mmquad.ops.selective_scan.api.selective_scan"' in selective
    assert "directional_scan" in (tmp_path / "search" / "search_index.json").read_text()
    assert not (tmp_path / "site_hooks.py").exists()
