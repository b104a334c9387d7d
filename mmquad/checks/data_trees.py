"""Checks that ImageNet, COCO and ADE20K are where the configs look for them, and complete."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

__all__ = ["DATASETS", "Finding", "check_ade20k", "check_coco", "check_imagenet"]

_SAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        ok: Whether this part is as it should be.
        part: What was looked at.
        detail: What was found and, if it is wrong, what to do.
    """

    ok: bool
    part: str
    detail: str


def check_imagenet(root: str | Path) -> Iterator[Finding]:
    """ImageNet-1k: both splits in 1000 folders, or flat with ``meta/<split>.txt``.

    Args:
        root: For the configs ``data/imagenet``.
    """
    root = Path(root)
    for split, images in (("train", 1_281_167), ("val", 50_000)):
        folder = root / split
        if not folder.is_dir():
            yield Finding(False, str(folder), "missing; unpack the archive of the split there")
            continue
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        ann_file = root / "meta" / f"{split}.txt"
        if not classes and ann_file.is_file():
            lines = [line.split() for line in ann_file.read_text().splitlines() if line.strip()]
            yield _count(str(ann_file), len(lines), images, "lines")
            absent = [words[0] for words in lines if not (folder / words[0]).is_file()]
            detail = f"missing {len(absent)} of its images, e.g. {absent[:3]}" if absent else "all"
            yield Finding(not absent, f"{folder}: images of {ann_file.name}", detail)
        elif not classes:
            yield Finding(
                False,
                str(folder),
                f"has no class folders; sort the images into them, or give {ann_file} with lines "
                "'<image> <class index>'",
            )
            continue
        else:
            yield _count(f"{folder}: class folders", len(classes), 1000, "folders")
            found = sum(1 for c in classes for f in c.iterdir() if _is_image(f))
            yield _count(f"{folder}: images", found, images, "images")
            empty = [c.name for c in classes if not any(map(_is_image, c.iterdir()))]
            if empty:
                yield Finding(False, str(folder), f"{len(empty)} empty folders, e.g. {empty[:3]}")
        yield _readable(path for path in folder.rglob("*") if _is_image(path))


def check_coco(root: str | Path) -> Iterator[Finding]:
    """COCO 2017: images of both splits and their instance annotations.

    Args:
        root: For the configs ``data/coco``.
    """
    root = Path(root)
    for split, images, objects in (("train", 118_287, 860_001), ("val", 5_000, 36_781)):
        folder = root / f"{split}2017"
        ann_file = root / "annotations" / f"instances_{split}2017.json"
        yield _count_files(folder, ".jpg", images)
        if not ann_file.is_file():
            yield Finding(
                False, str(ann_file), "missing; unpack annotations_trainval2017.zip in the root"
            )
            continue
        try:
            content = json.loads(ann_file.read_text())
            listed = [image["file_name"] for image in content["images"]]
            counts = (len(listed), len(content["annotations"]), len(content["categories"]))
        except (ValueError, KeyError, TypeError) as error:
            yield Finding(False, str(ann_file), f"cannot be read ({error!r}); download it again")
            continue
        yield _count(f"{ann_file.name}: images", counts[0], images, "images")
        yield _count(f"{ann_file.name}: objects", counts[1], objects, "objects")
        yield _count(f"{ann_file.name}: categories", counts[2], 80, "categories")
        absent = sorted(set(listed) - {p.name for p in folder.glob("*.jpg")})
        detail = f"{len(absent)} are missing, e.g. {absent[:3]}" if absent else "all there"
        yield Finding(not absent, f"{folder}: images listed in {ann_file.name}", detail)
        yield _readable(folder.glob("*.jpg"))


def check_ade20k(root: str | Path) -> Iterator[Finding]:
    """ADE20K of the scene parsing challenge: images and index maps, 0 to 150, of equal sizes.

    Args:
        root: For the configs ``data/ade/ADEChallengeData2016``.
    """
    root = Path(root)
    for split, images in (("training", 20_210), ("validation", 2_000)):
        image_folder, label_folder = root / "images" / split, root / "annotations" / split
        yield _count_files(image_folder, ".jpg", images)
        yield _count_files(label_folder, ".png", images)
        image_names = {p.stem for p in image_folder.glob("*.jpg")}
        unpaired = sorted(image_names ^ {p.stem for p in label_folder.glob("*.png")})
        if unpaired:
            yield Finding(
                False, f"{split}: pairs", f"{len(unpaired)} without partner, e.g. {unpaired[:3]}"
            )
        yield _readable(image_folder.glob("*.jpg"))
        for name in _spread(sorted(image_names - set(unpaired))):
            yield _label_map(image_folder / f"{name}.jpg", label_folder / f"{name}.png")


DATASETS: dict[str, tuple[Callable[[str | Path], Iterator[Finding]], str]] = {
    "imagenet": (check_imagenet, "data/imagenet"),
    "coco": (check_coco, "data/coco"),
    "ade20k": (check_ade20k, "data/ade/ADEChallengeData2016"),
}
"""By name: the check and where the configs look."""


def _count(part: str, found: int, expected: int, unit: str) -> Finding:
    detail = f"{found:,} {unit}" + ("" if found == expected else f", expected {expected:,}")
    return Finding(found == expected, part, detail)


def _count_files(folder: Path, suffix: str, expected: int) -> Finding:
    if not folder.is_dir():
        return Finding(False, str(folder), f"missing; expected {expected:,} {suffix} files")
    return _count(str(folder), sum(1 for _ in folder.glob(f"*{suffix}")), expected, suffix)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".png")


def _spread(items: list) -> list:
    """A few items from the whole of a list."""
    return items[:: max(1, len(items) // _SAMPLES)][:_SAMPLES]


def _readable(paths: Iterator[Path]) -> Finding:
    chosen = _spread(sorted(paths))
    broken = [path.name for path in chosen if cv2.imread(str(path)) is None]
    if broken:
        return Finding(False, "sample of images", f"cannot be decoded: {broken}; download again")
    return Finding(bool(chosen), "sample of images", f"{len(chosen)} decoded")


def _label_map(image_path: Path, label_path: Path) -> Finding:
    image, labels = cv2.imread(str(image_path)), cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
    if image is None or labels is None:
        return Finding(False, label_path.name, "image or label map cannot be decoded")
    if labels.ndim != 2 or labels.max() > 150:
        return Finding(
            False,
            label_path.name,
            f"expected one channel with values 0-150, got shape {labels.shape}, maximum "
            f"{labels.max()}: this is the full ADE20K, use ADEChallengeData2016.zip",
        )
    if labels.shape != image.shape[:2]:
        return Finding(False, label_path.name, f"{labels.shape} beside image {image.shape[:2]}")
    return Finding(True, label_path.name, f"{labels.shape[1]} x {labels.shape[0]}, as its image")
