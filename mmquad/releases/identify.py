"""Which released checkpoint a file is: the table of ``configs/checkpoints.yml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmquad.checkpoints.files import file_sha256
from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.convert import Conversion, read_release
from mmquad.releases.table import Rows, fitting_rows, task_of

__all__ = ["Identity", "identify_file"]


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
    entries: list[Mapping[str, Any]]
    known: bool


def identify_file(
    source: str | Path, table: Rows, *, key: str | None = None, trust: bool = False
) -> Identity:
    """Tell the model of a file from its weights, and its config from the table.

    Args:
        source: The file.
        table: See :func:`mmquad.releases.table.read_table`.
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
    task = task_of(conversion.state_dict)
    rows, known = fitting_rows(
        table,
        sha256=file_sha256(source),
        name=source.name,
        model=conversion.model,
        arch=conversion.arch,
        task=task,
    )
    return Identity(conversion, task, rows, known)


def _reason(row: Mapping[str, Any]) -> str:
    return row.get("unsupported") or f"{row['model']} {row['arch']}, {row['config']}"
