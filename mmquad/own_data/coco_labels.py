"""Reads an annotation file in COCO's format, and what is wrong in it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmquad.checks.annotation_files import annotation_problem
from mmquad.checks.damaged_images import image_problem
from mmquad.errors import SetupError
from mmquad.own_data.labels import Fault, Labels

__all__ = ["read_coco"]


def read_coco(file: str | Path, folder: str | Path) -> Labels:
    """Classes in the file's order, which are mmdet's labels, counts, and faults with their places.

    Args:
        file: In COCO's format: ``images``, ``annotations``, ``categories``.
        folder: Of the images that it names.

    Raises:
        SetupError: The file cannot be read as such, two categories have one name or one id.
    """
    file, folder = Path(file), Path(folder)
    content = _content(file)
    names = [str(category["name"]) for category in content["categories"]]
    ids = [category["id"] for category in content["categories"]]
    for what, values in (("name", names), ("id", ids)):
        twice = [value for value, n in Counter(values).items() if n > 1]
        if twice:
            raise SetupError(
                f"{file} has categories of one {what}: {', '.join(map(repr, twice))}. Labels of "
                "one would be taken for the other: rename them, or make them one category."
            )
    labels = Labels(file, tuple(names))
    images = _look_at_images(labels, content["images"], folder)
    by_id = dict(zip(ids, names, strict=True))
    _look_at_objects(labels, content.get("annotations") or [], images, by_id)
    return labels


def _content(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SetupError(f"{file} is missing (looked from {Path.cwd()}).")
    problem = annotation_problem(file)
    if problem is None:
        content = json.loads(file.read_bytes())
        if isinstance(content, dict):
            absent = [key for key in ("images", "categories") if not content.get(key)]
            if not absent:
                return content
            problem = f"it has no {', no '.join(absent)}"
        else:
            problem = "it holds a list, a file in COCO's format holds a dictionary"
    raise SetupError(f"{file} cannot be used: {problem}.")


def _look_at_images(
    labels: Labels, images: list[dict[str, Any]], folder: Path
) -> dict[Any, dict[str, Any]]:
    """The images by id; what is wrong with them and their files goes to the faults."""
    known: dict[Any, dict[str, Any]] = {}
    for image in images:
        name = str(image["file_name"])
        if image["id"] in known:
            labels.faults.append(Fault("two images of one id", f"id {image['id']} ({name})"))
        known[image["id"]] = image
        if not name.isascii():
            labels.faults.append(Fault("a name that is not ASCII", name))
        path = folder / name
        problem = image_problem(path, decode=False)
        if problem is not None:
            labels.faults.append(Fault("an image that cannot be read", f"{path} ({problem})"))
            continue
        labels.images.append(path)
        if "height" in image and "width" in image:
            labels.sizes[image["height"], image["width"]] += 1
    return known


def _look_at_objects(
    labels: Labels,
    objects: list[dict[str, Any]],
    images: dict[Any, dict[str, Any]],
    names: dict[Any, str],
) -> None:
    with_objects = set()
    for item in objects:
        place = f"annotation {item.get('id')}"
        if item.get("category_id") not in names:
            labels.faults.append(Fault(f"no category {item.get('category_id')}", place))
            continue
        image = images.get(item.get("image_id"))
        if image is None:
            labels.faults.append(Fault("an image that does not exist", place))
            continue
        x, y, w, h = item.get("bbox") or (0, 0, 0, 0)
        if w <= 0 or h <= 0:
            labels.faults.append(Fault("a box without area", place))
            continue
        width, height = image.get("width"), image.get("height")
        if width and height:
            if x >= width or y >= height or x + w <= 0 or y + h <= 0:
                labels.faults.append(Fault("a box outside its image", place))
                continue
            if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
                labels.faults.append(Fault("a box that sticks out of its image", place))
        with_objects.add(item["image_id"])
        labels.counts[names[item["category_id"]]] += 1
        labels.crowds += bool(item.get("iscrowd"))
        labels.masks += bool(item.get("segmentation"))
        labels.areas.append(float(w * h))
    labels.empty = len(images) - len(with_objects)
