"""Says which annotation files are empty, cut off or something else than their names promise.

Only what no reader could use is wrong for sure. JSON has many dialects (COCO's, mmpretrain's
``data_list``, ODVG's lines), so content is looked at only where a data set of mmdet reads COCO's.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmquad.checks.data_paths import DataPath, data_paths, evaluators
from mmquad.checks.policy import report

__all__ = ["COCO_TYPES", "annotation_problem", "check_annotations"]

COCO_TYPES = frozenset(
    {
        "ADE20KInstanceDataset",
        "ADE20KPanopticDataset",
        "CityscapesDataset",
        "CocoDataset",
        "CocoPanopticDataset",
        "DeepFashionDataset",
        "LVISDataset",
        "LVISV05Dataset",
        "LVISV1Dataset",
        "Objects365V1Dataset",
        "Objects365V2Dataset",
        "V3DetDataset",
        "iSAIDDataset",
    }
)
"""Data sets of mmdet that read COCO's format."""

# Reading COCO's 450 MB here too would cost every start five seconds and 3 GB; damage at the
# beginning or the end is found without.
_LARGEST_PARSED = 64 << 20


def check_annotations(cfg: Config, splits: tuple[str, ...], warn: Callable[[str], object]) -> None:
    """Look at the annotation files that ``splits`` of a config read.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: Of ``train``, ``val`` and ``test``.
        warn: Takes the text of a warning.

    Raises:
        SetupError: Files cannot be used: their names, the keys of the config and what is wrong.
    """
    broken, without = [], []
    for item in data_paths(cfg, splits):
        if item.is_folder or not item.path.is_file():
            continue
        problem, content = _look_at(item.path)
        if problem is None and item.reader in COCO_TYPES and isinstance(content, list | dict):
            problem = _coco_problem(content)
        is_empty = isinstance(content, dict) and not content.get("annotations")
        if problem:
            broken.append(f"  {item.path} ({item.key}): {problem}")
        elif item.reader in COCO_TYPES and is_empty and _needs_annotations(cfg, item):
            without.append(f"  {item.path} ({item.key})")
    if broken:
        report(
            "annotation-files",
            "These annotation files cannot be used:\n"
            + "\n".join(broken)
            + "\nWhat to do: download or write them again; a file in COCO's format is a JSON "
            "dictionary with images, annotations and categories.",
            warn,
        )
    if without:
        report(
            "annotations",
            "These files in COCO's format have no annotations:\n"
            + "\n".join(without)
            + "\nWhat to do: nothing if all images are meant to be empty; name another file to "
            "learn from or to measure with, or set format_only=True of the evaluator to write "
            "predictions only.",
            warn,
        )


def annotation_problem(path: str | Path) -> str | None:
    """Why no reader could use an annotation file, or None.

    JSON must begin and end as JSON does, in a dictionary, a list or lines of them, and is parsed
    up to 64 MB. Other files must not be empty or a web page.
    """
    return _look_at(Path(path))[0]


def _look_at(path: Path) -> tuple[str | None, Any]:
    """What is wrong with a file, and its content as far as it is one JSON value."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes)", None
    with open(path, "rb") as file:
        start = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(max(0, size - 256))
        end = file.read().rstrip()
    if start.lower().startswith((b"<!doctype html", b"<html")):
        return f"it is a web page, it begins with {start[:20]!r}", None
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file it stands for: git lfs pull", None
    if path.suffix not in (".json", ".jsonl"):
        return None, None
    if not start.startswith((b"{", b"[")):
        return f"it is no JSON, it begins with {start[:20]!r}", None
    if not end.endswith((b"}", b"]")):
        return f"it is cut off after {size:,} bytes, at {end[-20:]!r}", None
    if size > _LARGEST_PARSED:
        return None, None
    try:
        return None, json.loads(path.read_bytes())
    except ValueError as error:
        if path.suffix == ".json" and "Extra data" not in str(error):
            return f"it is no valid JSON: {error}", None
    return _lines_problem(path), None


def _lines_problem(path: Path) -> str | None:
    """JSON lines, as ODVG's files have them: a value on each line."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line.strip() or b"null")
            except ValueError as error:
                return f"its line {number} is no valid JSON: {error}"
    return None


def _coco_problem(content: list | dict) -> str | None:
    if isinstance(content, list):
        return "it holds a list, a file in COCO's format holds a dictionary"
    absent = [key for key in ("images", "categories") if not content.get(key)]
    return f"it has no {', no '.join(absent)}" if absent else None


def _needs_annotations(cfg: Config, item: DataPath) -> bool:
    """Whether something is learned from a file, or measured with it."""
    split = item.key.partition("_")[0]
    if split == "train":
        # Unlabelled images of semi-supervised training have another step.
        steps = [step.get("type") for step in item.pipeline if isinstance(step, Mapping)]
        return not steps or any(str(step).endswith("LoadAnnotations") for step in steps)
    return any(not metric.get("format_only") for metric in evaluators(cfg, split))
