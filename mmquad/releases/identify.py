"""Which released checkpoint a file is: the table of ``configs/checkpoints.yml``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmquad.checkpoints.files import file_sha256
from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.convert import Conversion, read_release

__all__ = ["Identity", "identify_file", "read_table"]


@dataclass
class Identity:
    """What a file holds.

    Args:
        conversion: Its weights under the names here, and the model they are for.
        task: ``mmpretrain``, ``mmdet`` or ``mmseg``, by the heads in the file.
        entries: Rows of the table that it may be: those with its checksum, else with its model,
            architecture and task, the one of its name first.
        known: Whether a row has its checksum.
    """

    conversion: Conversion
    task: str
    entries: list[dict[str, Any]]
    known: bool


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of the table: file, url, model, arch, and config and metrics, or why there is none."""
    return yaml.safe_load(Path(path).read_text())


def identify_file(
    source: str | Path, table: list[dict[str, Any]], *, key: str | None = None, trust: bool = False
) -> Identity:
    """Tell the model of a file from its weights, and its config from the table.

    Args:
        source: The file.
        table: See :func:`read_table`.
        key: See :func:`mmquad.releases.convert.convert_file`.
        trust: See :func:`mmquad.releases.convert.convert_file`.

    Raises:
        CheckpointFileError: The file cannot be opened.
        CheckpointMismatchError: It holds no weights of a known release, or of a part of one that
            is not supported.
    """
    source = Path(source)
    try:
        conversion = read_release(source, key=key, trust=trust)
    except CheckpointMismatchError as error:
        reasons = {_reason(row) for row in table if row["file"] == source.name}
        hint = "".join(f"\nIf it is the released file of that name: {r}." for r in sorted(reasons))
        raise CheckpointMismatchError(f"{error}{hint}") from error
    digest, task = file_sha256(source), _task(conversion)
    known = [row for row in table if row.get("sha256") == digest]
    fitting = [
        row
        for row in table
        if (row["model"], row["arch"]) == (conversion.model, conversion.arch)
        and f"configs/{task}/" in row.get("config", "")
    ]
    fitting.sort(key=lambda row: row["file"] != source.name)
    return Identity(conversion, task, known or fitting, bool(known))


def _reason(row: dict[str, Any]) -> str:
    return row.get("unsupported") or f"{row['model']} {row['arch']}, {row['config']}"


def _task(conversion: Conversion) -> str:
    parts = {name.split(".")[0] for name in conversion.state_dict}
    if parts & {"rpn_head", "roi_head", "bbox_head"}:
        return "mmdet"
    return "mmseg" if "decode_head" in parts else "mmpretrain"
