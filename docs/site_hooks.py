"""What MkDocs needs to make a site of this repository; `mkdocs.yml` names this file.

The pages are written to be read in the repository: they link to each other, to README files, to
code and to configs by relative paths. Here the pages outside of docs/ become pages of the site too.
Each module of the package gets an entry in the API reference. Links follow; what the site does not
hold, a config or a test, stays as its path, in code type.
"""

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "notebooks/quickstart.ipynb": "notebooks/quickstart.md",
    **{
        path.relative_to(ROOT).as_posix(): path.parent.relative_to(ROOT).as_posix() + ".md"
        for path in sorted((ROOT / "configs").glob("*/*/README.md"))
    },
}
LIBRARIES = {"mmpretrain": "Classification", "mmdet": "Detection", "mmseg": "Segmentation"}
LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)\s]+)\)")
SOURCE = re.compile(r'(?P<before>!\[[^\]]*\]\(|src=")(?P<target>[^)"\s]+)(?P<after>\)|")')
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def api_parts() -> dict[str, list[str]]:
    """Modules of each part of the package, by the part's name."""
    parts: dict[str, list[str]] = {}
    for path in sorted((ROOT / "mmquad").rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        names = names[:-1] if names[-1] == "__init__" else names
        if len(names) > 1:
            parts.setdefault(names[1], []).append(".".join(names))
    return parts


def place_in_site(path: str) -> str | None:
    """The page, or the picture, that a path of the repository becomes; None if it becomes none."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("mmquad/") and path.endswith(".py"):
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        part = module.split(".")[1]
        return f"api/{part}.md#{module}" if part in api_parts() else None
    return None


def follow_links(text: str, source: str, page: str) -> str:
    """Turn links that hold in the file `source` into links that hold on the page `page`."""

    def moved(target: str) -> str | None:
        name, hash_sign, anchor = target.partition("#")
        if not name or target.startswith(("http:", "https:", "mailto:")):
            return target
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        place = place_in_site(path)
        if place is None:
            return None
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + hash_sign + anchor

    def link(match: re.Match[str]) -> str:
        label, target = match["label"], moved(match["target"])
        if target is not None:
            return f"[{label}]({target})"
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        bare = label.strip("`")
        return f"`{path}`" if path.endswith(bare) else f"{label} (`{path}`)"

    def picture(match: re.Match[str]) -> str:
        return match["before"] + (moved(match["target"]) or match["target"]) + match["after"]

    pieces = FENCE.split(text)
    pieces[::2] = [SOURCE.sub(picture, LINK.sub(link, piece)) for piece in pieces[::2]]
    return "".join(pieces)


def notebook_text(path: Path) -> str:
    """Text and code of a notebook as Markdown."""
    cells = json.loads(path.read_text())["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(
        text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in sources
    )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the configs' pages and the API reference into the navigation."""
    families: dict[str, list[str]] = {name: [] for name in LIBRARIES}
    for page in OUTSIDE.values():
        if page.startswith("configs/"):
            families[page.split("/")[1]].append(page)
    config.nav += [
        {"Configs": [{LIBRARIES[name]: pages} for name, pages in families.items()]},
        {"API": [{f"mmquad.{part}": f"api/{part}.md"} for part in api_parts()]},
    ]
    return config


def exports(package: Path) -> str:
    """The names to import from a package; classes and functions lead to their entries."""
    names = []
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (alias.name for alias in node.names):
                is_shown = name in definitions(node.module)
                names.append(f"[`{name}`][{node.module}.{name}]" if is_shown else f"`{name}`")
    return f"To be imported from here: {', '.join(names)}." if names else ""


def definitions(module: str) -> set[str]:
    """Classes and functions of a module, or what a package takes from its own modules."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
            found |= {alias.name for alias in node.names if not alias.name.isupper()}
    return found


def api_page(part: str, modules: list[str]) -> str:
    """The page of one part of the package, for mkdocstrings to fill."""
    text = f"# mmquad.{part}\n"
    for module in modules:
        folder = ROOT / module.replace(".", "/")
        text += f"\n::: {module}\n"
        if folder.is_dir():  # what it exports is shown where it is defined
            text += f"    options:\n      members: false\n\n{exports(folder)}\n"
    return text


def generated_pages() -> Iterator[tuple[str, str]]:
    for source, page in OUTSIDE.items():
        path = ROOT / source
        text = notebook_text(path) if path.suffix == ".ipynb" else path.read_text()
        yield page, follow_links(text, source, page)
    for part, modules in api_parts().items():
        yield f"api/{part}.md", api_page(part, modules)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for page, text in generated_pages():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Follow the links of the pages in docs/; the generated ones hold their own already."""
    path = page.file.src_uri
    return text if page.file.generated_by else follow_links(text, f"docs/{path}", path)
