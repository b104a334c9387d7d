"""Official weights by name: fetched, converted, and what they are compared with the table."""

import difflib
from pathlib import Path
from typing import Any

from mmquad.checkpoints.download import local_file
from mmquad.checkpoints.files import CheckpointFileError
from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.registry import RELEASED_WEIGHTS
from mmquad.releases.convert import conversion_meta, read_release
from mmquad.releases.table import Rows, installed_table, read_table

__all__ = ["read_registered", "registered_names"]


def registered_names(table: Rows) -> dict[str, dict[str, Any]]:
    """Rows of the table by name: ``name`` where a row has one, or else that of its config.

    Rows that cannot be converted have none.
    """
    named = {}
    for row in table:
        if "unsupported" not in row:
            named[row.get("name") or Path(row["config"]).stem] = dict(row)
    return named


@RELEASED_WEIGHTS.register_module()
def read_registered(name: str) -> dict[str, Any]:
    """An official release, as :func:`mmquad.releases.convert.convert_file` would write it.

    Args:
        name: Registered name, that of the config the weights belong to.

    Raises:
        CheckpointFileError: There is no such name, or the file cannot be fetched or opened, also
            because it lies behind a page for browsers.
        CheckpointMismatchError: The file is another than the table says.

    Returns:
        ``state_dict`` and ``meta``.
    """
    table = read_table(installed_table())
    named = registered_names(table)
    row = named.get(name)
    if row is None:
        near = difflib.get_close_matches(name, named, n=4, cutoff=0.3)
        raise CheckpointFileError(
            f"{name!r} is neither a path nor the name of an official release; of those, near ones "
            f"are {', '.join(near) or 'none'}. All are in {installed_table()}: names of the "
            "configs."
        )
    if not row["url"].endswith(row["file"]):
        raise CheckpointFileError(
            f"the weights of {name} lie behind a page that only a browser gets past: download "
            f"{row['url']} and give the file's path to tools/model_converters/convert_checkpoint.py"
        )
    checksum = f"#sha256={row['sha256']}" if "sha256" in row else ""
    path = local_file(row["url"] + checksum)
    conversion = read_release(path, arch=row["arch"])
    if conversion.model != row["model"]:  # of another arch it would not have fitted
        raise CheckpointMismatchError(
            f"{row['url']} ({path}) holds weights of {conversion.model}, expected {row['model']}: "
            "its authors have replaced it, or it is another file."
        )
    meta = conversion_meta(conversion, path, [row]) | {"source": row["url"]}
    return {"state_dict": conversion.state_dict, "meta": meta}
