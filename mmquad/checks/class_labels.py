"""Compares what labels mean: in a data set, its files, those beside it, and a checkpoint.

A label is a position in ``classes``. mmdet numbers the objects of a file in COCO's format by the
order of the file's categories and never looks at the order of ``classes``; mmpretrain numbers
folders by their names. Where the two orders differ, everything runs, and every name is wrong.
"""

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.fileio import get_local_path

__all__ = [
    "Finding",
    "check_classes",
    "check_dataset",
    "check_metric",
    "classes_of",
    "innermost",
    "misplaced",
    "read_categories",
]

_SHOWN = 4


class Finding(NamedTuple):
    """What is wrong with labels: the check that finds it (``checks.policy``), and the message."""

    check: str
    message: str


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Names of the classes of a data set, in the order of labels; None if it has none."""
    return (getattr(dataset, "metainfo", None) or {}).get("classes") or None


def innermost(dataset: Any) -> Iterator[Any]:
    """The data sets that read files, inside of wrappers and concatenations."""
    if hasattr(dataset, "datasets"):
        for part in dataset.datasets:
            yield from innermost(part)
    elif hasattr(dataset, "dataset"):
        yield from innermost(dataset.dataset)
    else:
        yield dataset


def misplaced(labels: Mapping[int, str], classes: Sequence[str]) -> dict[int, str]:
    """Labels whose name ``classes`` has, but elsewhere.

    Example:
        >>> misplaced({0: "cat", 1: "cow", 2: "dog"}, ("cat", "dog"))
        {2: 'dog'}
    """
    known = set(classes)
    return {
        label: name
        for label, name in labels.items()
        if name in known and not (label < len(classes) and classes[label] == name)
    }


def check_dataset(dataset: Any, key: str) -> Iterator[Finding]:
    """Compare ``classes`` of a built data set with its annotation files and folders.

    Args:
        dataset: Of mmdet, mmseg or mmpretrain, maybe in wrappers.
        key: Where the config has it, e.g. ``train_dataloader.dataset``.
    """
    classes = classes_of(dataset)
    if classes is None:
        return
    if isinstance(classes, str):
        yield Finding(
            "labels",
            f"classes of {key} is the text {classes!r}, whose letters would be taken for the "
            f"classes.\nWhat to do: write it as a list: {key}.metainfo=dict(classes=[...]); in "
            "Python, a tuple of one name needs a comma.",
        )
        return
    for part in innermost(dataset):
        own = classes_of(part)
        if own is not None and part is not dataset:
            yield from check_classes(own, f"a part of {key}", classes, f"its whole ({key})")
        yield from _check_folders(part, own or classes, key)
        yield from _check_categories(part, own or classes, key)


def check_classes(
    classes: Sequence[str], key: str, others: Sequence[str], where: str
) -> Iterator[Finding]:
    """Compare the classes of ``key`` with those of ``where``, which share labels with them.

    Args:
        classes: Names of the classes, in the order of labels.
        key: Whose they are: a key of the config.
        others: The classes that they must agree with.
        where: Whose those are, for the message.
    """
    wrong = misplaced(dict(enumerate(classes)), others)
    known = set(others)
    if wrong:
        yield Finding(
            "labels",
            f"Labels of {key} mean other classes than in {where}:\n"
            + _differences(wrong, others)
            + f"\nWhat to do: give both the same classes in the same order ({key}.metainfo).",
        )
    elif unknown := [name for name in classes if name not in known]:
        yield Finding(
            "class-names",
            f"{len(unknown)} of the {len(classes)} classes of {key} are not among the "
            f"{len(others)} of {where}: {_some(unknown)}; there they are {_some(others)}. Labels "
            "are compared by number.\nWhat to do: nothing if these are other names of the same "
            f"classes; otherwise correct metainfo.classes of {key}.",
        )


def check_metric(metric: Any, classes: Sequence[str], key: str) -> Iterator[Finding]:
    """Compare ``classes`` with the annotation file that a metric of mmdet reads itself.

    Args:
        metric: A built metric.
        classes: Of the data whose predictions it gets.
        key: Where the config has it, e.g. ``val_evaluator``.
    """
    coco, lvis = getattr(metric, "_coco_api", None), getattr(metric, "_lvis_api", None)
    content = getattr(coco or lvis, "dataset", None)
    if not isinstance(content, Mapping) or isinstance(classes, str):
        return
    names = [category["name"] for category in content.get("categories") or ()]
    known = set(classes)
    # mmdet takes those of COCO's format by name, all of LVIS's, both in the file's order.
    chosen = [name for name in names if name in known] if coco else names
    yield from _judge(dict(enumerate(chosen)), names, classes, f"{key}.ann_file", key)


def read_categories(path: str | Path) -> list[dict[str, Any]]:
    """``categories`` of an annotation file in COCO's format.

    Files of COCO's size (450 MB) are not parsed: the list is found by its name and read alone.

    Args:
        path: A local file.

    Returns:
        Its categories, in the file's order; empty if there are none.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        # Most files have it last.
        places = [text.rfind(b'"categories"'), text.find(b'"categories"')]
        for place in places:
            if place >= 0 and (found := _list_after(text, place + len(b'"categories"'))):
                return found
    content = json.loads(Path(path).read_bytes())
    found = content.get("categories") if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def _list_after(text: mmap.mmap, start: int) -> list[dict[str, Any]] | None:
    begin = re.compile(rb"\s*:\s*\[\s*\{").match(text, start)
    if begin is None:
        return None
    opening = text.find(b"[", start)
    length = 1 << 20
    while True:
        piece = text[opening : opening + length].decode("utf-8", errors="ignore")
        try:
            found, _ = json.JSONDecoder().raw_decode(piece)
        except ValueError:
            if opening + length >= len(text) or length > 64 << 20:
                return None
            length *= 4
            continue
        good = all(isinstance(each, dict) and {"id", "name"} <= set(each) for each in found)
        return found if good else None


def _check_folders(dataset: Any, classes: Sequence[str], key: str) -> Iterator[Finding]:
    """mmpretrain numbers the folders of a split in the order of their names."""
    folders = getattr(dataset, "folder_to_idx", None)
    if not isinstance(folders, Mapping):
        return
    wrong = misplaced({label: name for name, label in folders.items()}, classes)
    if wrong:
        yield Finding(
            "labels",
            f"Folders of {key} get other labels than the classes of their names:\n"
            + _differences(wrong, classes)
            + f"\nWhat to do: leave out {key}.metainfo.classes or write it in the order of the "
            "folders' names, by which mmpretrain numbers them.",
        )


def _check_categories(dataset: Any, classes: Sequence[str], key: str) -> Iterator[Finding]:
    """mmdet numbers the categories of a file in COCO's format in the file's order."""
    labels = getattr(dataset, "cat2label", None)
    path = getattr(dataset, "ann_file", None)
    if not isinstance(labels, Mapping) or not str(path).endswith(".json"):
        return
    if not all(isinstance(label, int) for label in labels.values()):
        return
    with get_local_path(path, backend_args=getattr(dataset, "backend_args", None)) as local:
        categories = read_categories(local)
    names = {category["id"]: category["name"] for category in categories}
    if not set(labels) <= set(names):
        return  # a dialect of its own, such as VOC's, whose labels are found by name
    meant = {label: names[category_id] for category_id, label in labels.items()}
    yield from _judge(meant, list(names.values()), classes, str(path), key)


def _judge(
    meant: Mapping[int, str], names: Sequence[str], classes: Sequence[str], path: str, key: str
) -> Iterator[Finding]:
    """Compare labels as a file has them with the classes.

    Args:
        meant: The file's name of each label.
        names: All names of the file.
        classes: The names that the run gives to labels.
        path: The file, for the message.
        key: Where the config names it.
    """
    advice = (
        "\nWhat to do: write the same categories in the same order into all files, and "
        f"metainfo=dict(classes=(...)) of {key} in that order. mmdet takes labels in the file's "
        "order, never in that of classes."
    )
    wrong = misplaced(meant, classes)
    of_the_file, of_the_run = set(names), Counter(classes)
    twice = [name for name, n in Counter(meant.values()).items() if n > of_the_run[name] > 0]
    absent = [name for name in classes if name not in of_the_file]
    strange = [name for name in meant.values() if name not in of_the_run]
    if twice:
        yield Finding(
            "labels",
            f"{path} has several categories of the name {_some(twice)}: each gets a label of its "
            f"own, and those after it get wrong ones.\nWhat to do: give the categories different "
            f"names, or one id ({key}).",
        )
    elif not meant:
        yield Finding(
            "labels",
            f"None of the {len(classes)} classes of {key} is among the {len(names)} categories of "
            f"{path}, so that all its objects are left out: the classes are {_some(classes)}, the "
            f"categories {_some(names)}.\nWhat to do: set metainfo=dict(classes=(...)) of {key} to "
            "the names of the file.",
        )
    elif wrong:
        yield Finding(
            "labels",
            f"Objects of {path} get other labels than the classes of their names ({key}):\n"
            + _differences(wrong, classes)
            + (f"\nIts categories lack {_some(absent)}, which moves all after them." * bool(absent))
            + advice,
        )
    elif len(meant) > len(classes):
        yield Finding(
            "labels",
            f"{path} has {len(meant)} categories, {key} has {len(classes)} classes: the labels of "
            f"{_some(strange)} are none of the classes." + advice,
        )
    elif absent or strange:
        left_out = [name for name in names if name not in of_the_run]
        yield Finding(
            "class-names",
            f"{len(absent)} of the {len(classes)} classes of {key} are not among the {len(names)} "
            f"categories of {path}: {_some(absent)}. Of its categories, {_some(left_out)} are none "
            "of the classes."
            "\nWhat to do: nothing if it has no such objects; otherwise set "
            f"metainfo=dict(classes=(...)) of {key} to the names of the file.",
        )


def _differences(wrong: Mapping[int, str], classes: Sequence[str]) -> str:
    lines = [
        f"  label {label}: {name!r} here, {there}"
        for label, name in list(wrong.items())[:_SHOWN]
        for there in [repr(classes[label]) if label < len(classes) else "no class there"]
    ]
    more = [f"  and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return "\n".join([*lines, *more])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(str, names[:_SHOWN])) or "none"
    return f"{shown}, ..." if len(names) > _SHOWN else shown
