"""The table of released checkpoints, ``configs/checkpoints.yml``, and which rows fit a file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Rows", "fitting_rows", "installed_table", "read_table", "task_of"]

Rows = Sequence[Mapping[str, Any]]


def installed_table() -> Path:
    """``configs/checkpoints.yml``, of the installed package or of the repository it is in."""
    package = Path(__file__).parents[1]
    installed = package / ".mim" / "configs"
    return (installed if installed.is_dir() else package.parent / "configs") / "checkpoints.yml"


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of the table: file, url, model, arch, and config and metrics, or why there is none."""
    return yaml.safe_load(Path(path).read_text())


def fitting_rows(
    table: Rows, *, sha256: str, name: str, model: str, arch: Any, task: str
) -> tuple[list[Mapping[str, Any]], bool]:
    """Rows that a file may be: those with its checksum, else with its model and task.

    Args:
        table: See :func:`read_table`.
        sha256: Of the file, in hexadecimal.
        name: Of the file; its row comes first.
        model: Name of the backbone's class.
        arch: Name of the architecture, or its fields, which no row has.
        task: See :func:`task_of`.

    Returns:
        The rows, and whether they have its checksum.
    """
    known = [row for row in table if row.get("sha256") == sha256]
    fitting = [
        row
        for row in table
        if (row["model"], row["arch"]) == (model, arch)
        and f"configs/{task}/" in row.get("config", "")
    ]
    fitting.sort(key=lambda row: row["file"] != name)
    return known or fitting, bool(known)


def task_of(names: Iterable[str]) -> str:
    """``mmpretrain``, ``mmdet`` or ``mmseg``, by the heads among the names of the weights."""
    parts = {name.split(".")[0] for name in names}
    if parts & {"rpn_head", "roi_head", "bbox_head"}:
        return "mmdet"
    return "mmseg" if "decode_head" in parts else "mmpretrain"
