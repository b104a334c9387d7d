"""Folders of generated data: complete or absent, and stamped with how they were made."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STAMP_NAME = "shapes.json"


def build_once(
    root: str | Path,
    stamp: dict[str, Any],
    write: Callable[[Path], None],
    *,
    overwrite: bool = False,
) -> Path:
    """Fills a folder with generated data, unless it already holds the same data.

    The data are written to a temporary folder beside `root`, which gets the name `root` when they
    are complete, so that an interrupted run leaves nothing that looks like a data set.

    Args:
        root: The folder to make.
        stamp: What determines the data, as JSON values. It is kept in `root/shapes.json`.
        write: Writes the data to a folder that exists and is empty.
        overwrite: Whether to replace generated data that have another stamp.

    Returns:
        The folder.

    Raises:
        FileExistsError: `root` holds data with another stamp and `overwrite` is false, or data
            that were not generated, which are never overwritten.
    """
    root = Path(root).expanduser().absolute()
    stamp = json.loads(json.dumps(stamp))  # as it reads back: tuples become lists
    if _is_reusable(root, stamp, overwrite=overwrite):
        return root

    root.parent.mkdir(parents=True, exist_ok=True)
    draft = root.with_name(f".{root.name}.{uuid.uuid4().hex[:8]}.tmp")
    draft.mkdir()
    try:
        write(draft)
        (draft / STAMP_NAME).write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n")
        # a second process may have built the same data in the meantime
        if not _is_reusable(root, stamp, overwrite=overwrite):
            _replace(root, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def build_splits(
    root: str | Path,
    stamp: dict[str, Any],
    counts: dict[str, int],
    seed: int,
    write_split: Callable[[Path, str, list[np.random.SeedSequence]], None],
    *,
    least: int = 1,
    overwrite: bool = False,
) -> Path:
    """:func:`build_once` of a training and a validation split, each image with a seed of its own.

    So image i of a split does not depend on the number of images, and no image is in both.

    Args:
        root: See :func:`build_once`.
        stamp: See :func:`build_once`; the numbers of images and the seed are added.
        counts: Number of images of the training and of the validation split, by their names.
        seed: Seed of all randomness.
        write_split: Called with the folder, a split's name and the seeds of its images.
        least: Fewest images of a split.
        overwrite: See :func:`build_once`.

    Raises:
        ValueError: A split has fewer images than ``least``.
        FileExistsError: See :func:`build_once`.
    """
    num_train, num_val = counts.values()
    if min(num_train, num_val) < least:
        raise ValueError(
            f"expected at least {least} images per split, got {num_train=}, {num_val=}"
        )

    def write(folder: Path) -> None:
        streams = np.random.SeedSequence(seed).spawn(2)
        for stream, (split, count) in zip(streams, counts.items(), strict=True):
            write_split(folder, split, stream.spawn(count))

    stamp = {**stamp, "num_train": num_train, "num_val": num_val, "seed": seed}
    return build_once(root, stamp, write, overwrite=overwrite)


def _is_reusable(root: Path, stamp: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether `root` holds the wanted data; raises if it holds anything that must stay."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    stamp_file = root / STAMP_NAME
    if not stamp_file.is_file():
        raise FileExistsError(
            f"expected {root} to be absent, empty, or a generated data set; got files without "
            f"{STAMP_NAME}, which are never overwritten. Choose another root or remove it."
        )
    found = json.loads(stamp_file.read_text())
    if found == stamp:
        return True
    if overwrite:
        return False
    differing = sorted(k for k in found.keys() | stamp.keys() if found.get(k) != stamp.get(k))
    details = ", ".join(f"{k}: {found.get(k)!r} -> {stamp.get(k)!r}" for k in differing)
    raise FileExistsError(
        f"{root} holds data generated with other parameters (there -> wanted: {details}). "
        f"Choose another root, or replace it with overwrite=True (--overwrite)."
    )


def _replace(root: Path, draft: Path) -> None:
    if not root.exists():
        os.rename(draft, root)
        return
    discarded = root.with_name(f".{root.name}.{uuid.uuid4().hex[:8]}.old")
    os.rename(root, discarded)
    os.rename(draft, root)
    shutil.rmtree(discarded)
