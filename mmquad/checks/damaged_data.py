"""Says which annotation files are empty, cut off or something else than their names promise."""

import json
from pathlib import Path

from mmengine.config import Config

from mmquad.checks.data_paths import data_paths
from mmquad.errors import SetupError

__all__ = ["annotation_problem", "check_annotations"]

# Reading COCO's 450 MB here too would cost every start five seconds and 3 GB; damage at the
# beginning or the end is found without.
_LARGEST_PARSED = 64 << 20


def annotation_problem(path: str | Path) -> str | None:
    """Why a COCO annotation file cannot be used, or None."""
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes)"
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
        file.seek(max(0, size - 64))
        end = file.read().rstrip()
    if not start.startswith(b"{"):
        return f"it is no JSON dictionary, it begins with {start[:20]!r}"
    if not end.endswith(b"}"):
        return f"it is cut off after {size:,} bytes, at {end[-20:]!r}"
    if size > _LARGEST_PARSED:
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        return f"it is no valid JSON: {error}"
    absent = [key for key in ("images", "annotations", "categories") if not content.get(key)]
    return f"it has no {', no '.join(absent)}" if absent else None


def check_annotations(cfg: Config, splits: tuple[str, ...]) -> None:
    """Raise if an annotation file in COCO's format is empty, cut off or holds nothing.

    Raises:
        SetupError: Naming the files, the keys of the config and what is wrong.
    """
    found = []
    for item in data_paths(cfg, splits):
        if not item.is_folder and item.path.suffix == ".json":
            problem = annotation_problem(item.path)
            if problem:
                found.append(f"  {item.path} ({item.key}): {problem}")
    if found:
        raise SetupError(
            "These annotation files cannot be used:\n"
            + "\n".join(found)
            + "\nWhat to do: download or write them again; a file in COCO's format is a JSON "
            "dictionary with images, annotations and categories."
        )
