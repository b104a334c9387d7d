"""What all kinds of labels come to: classes, counts, faults; and how that is told."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Fault", "Labels", "describe", "images_in_both"]

_LISTED = 5


class Fault(NamedTuple):
    """What is wrong at one place; faults of one kind are counted together."""

    kind: str
    place: str


@dataclass
class Labels:
    """One split of a data set.

    Args:
        source: The file or folder.
        classes: Their names, in the order of the labels 0, 1, ...
        images: Paths of the images that are there.
        counts: Objects of each class, or images where an image is one.
        empty: Images without an object.
        crowds: Objects that stand for a crowd.
        masks: Objects that have a mask.
        sizes: Images of each (height, width) that the labels tell.
        areas: Of the objects, in pixels.
        faults: What is wrong.
    """

    source: Path
    classes: tuple[str, ...]
    images: list[Path] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    crowds: int = 0
    masks: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    areas: list[float] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def describe(labels: Labels) -> str:
    """What a split holds, in lines for a reader; faults by kind, with their first places."""
    objects = sum(labels.counts.values())
    lines = [
        f"{labels.source}: {len(labels.images)} images, {objects} labels of "
        f"{len(labels.classes)} classes"
    ]
    width = max(map(len, labels.classes), default=0)
    for label, name in enumerate(labels.classes):
        lines.append(f"  {label:>4}  {name:<{width}}  {labels.counts[name]}")
    if labels.sizes:
        common = ", ".join(f"{w} x {h} ({n})" for (h, w), n in labels.sizes.most_common(3))
        more = len(labels.sizes) - 3
        lines.append(f"  sizes   {common}{f' and {more} others' if more > 0 else ''}")
    if labels.areas:
        small = sum(area < 32**2 for area in labels.areas)
        lines.append(f"  small   {small} of {len(labels.areas)} objects, below 32 x 32 pixels")
    if labels.empty:
        lines.append(f"  empty   {labels.empty} images have no object")
    if labels.crowds:
        lines.append(f"  crowds  {labels.crowds} objects")
    by_kind = defaultdict(list)
    for fault in labels.faults:
        by_kind[fault.kind].append(fault.place)
    for kind, places in by_kind.items():
        first = ", ".join(places[:_LISTED]) + (", ..." if len(places) > _LISTED else "")
        lines.append(f"  {len(places)} x {kind}: {first}")
    return "\n".join(lines)


def images_in_both(one: Iterable[Path], other: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Pairs of equal image files, of one split and of another.

    Only files of equal size are read.
    """
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in one:
        by_size[path.stat().st_size].append(path)
    hashes: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in hashes:
            hashes[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashes[path]

    return [
        (same, path)
        for path in other
        for same in by_size.get(path.stat().st_size, [])
        if digest(same) == digest(path)
    ]
