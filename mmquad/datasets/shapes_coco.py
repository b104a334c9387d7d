"""Writes generated scenes as an instance segmentation data set laid out as COCO 2017."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmquad.datasets.coco_masks import mask_to_box, mask_to_polygons, mask_to_rle
from mmquad.datasets.generated import build_splits
from mmquad.datasets.image_files import write_jpeg
from mmquad.datasets.shape_outlines import SHAPE_CLASSES
from mmquad.datasets.shapes_scene import Scene, SceneParams, draw_scene

# Raise it with every change that makes the same parameters give other data.
_VERSION = 1
_FIRST_IMAGE_ID = {"train": 1, "val": 1_000_001}


def generate_shapes_coco(
    root: str | Path,
    num_train: int = 400,
    num_val: int = 80,
    seed: int = 0,
    scene_params: SceneParams | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Generates the shapes data set in COCO format.

    The folder is laid out as `data/coco` is (`train2017`, `val2017`,
    `annotations/instances_{train,val}2017.json`), so mmdet's COCO configs work with only
    `data_root` and `metainfo=dict(classes=SHAPE_CLASSES)` changed. Objects are annotated by the
    polygons of their visible part, crowd regions by run lengths. `area` and `bbox` are those of
    the mask.

    The same arguments give the same bytes (with the same versions of NumPy and OpenCV). Image i
    of a split does not depend on the number of images, and no scene is in both splits.

    Args:
        root: The folder to make. If it already holds this data set, nothing is done.
        num_train: Number of training images.
        num_val: Number of validation images.
        seed: Seed of all randomness.
        scene_params: What the images look like; the defaults of `SceneParams` if None.
        overwrite: Whether to replace a generated data set with other parameters.

    Returns:
        The folder.

    Raises:
        FileExistsError: `root` holds something else, see `build_once`.

    Example:
        >>> generate_shapes_coco("data/shapes_coco", num_train=8, num_val=2)  # doctest: +SKIP
    """
    params = scene_params or SceneParams()
    stamp = {"format": "coco", "version": _VERSION, "scene_params": asdict(params)}
    counts = {"train": num_train, "val": num_val}
    write_split = partial(_write_split, params)
    return build_splits(root, stamp, counts, seed, write_split, overwrite=overwrite)


def _write_split(
    params: SceneParams, folder: Path, split: str, seeds: list[np.random.SeedSequence]
) -> None:
    image_folder, label_folder = folder / f"{split}2017", folder / "annotations"
    image_folder.mkdir()
    label_folder.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, seed in enumerate(seeds, start=_FIRST_IMAGE_ID[split]):
        scene = draw_scene(np.random.default_rng(seed), params)
        file_name = f"{image_id:012d}.jpg"
        write_jpeg(image_folder / file_name, scene.image)
        H, W = scene.image.shape[:2]
        images.append(
            {"id": image_id, "file_name": file_name, "height": H, "width": W, "license": 1}
        )
        annotations += _annotations(scene, image_id)
    # numbered over the whole split: COCO's evaluation takes an id of 0 for "no match"
    for annotation_id, annotation in enumerate(annotations, start=_FIRST_IMAGE_ID[split]):
        annotation["id"] = annotation_id

    content = {
        "info": {
            "description": f"mmquad shapes, {split} split",
            "version": str(_VERSION),
            "contributor": "mmquad",
        },
        "licenses": [
            {
                "id": 1,
                "name": "Apache License 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            }
        ],
        "categories": [
            {"id": index, "name": name, "supercategory": "shape"}
            for index, name in enumerate(SHAPE_CLASSES, start=1)
        ],
        "images": images,
        "annotations": annotations,
    }
    path = label_folder / f"instances_{split}2017.json"
    path.write_text(json.dumps(content, separators=(",", ":")))


def _annotations(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """The annotations of an image, all but their ids."""
    annotations = []
    for instance in scene.instances:
        encode = mask_to_rle if instance.is_crowd else mask_to_polygons
        annotations.append(
            {
                "image_id": image_id,
                "category_id": instance.label + 1,
                "iscrowd": int(instance.is_crowd),
                "area": float(np.count_nonzero(instance.mask)),
                "bbox": mask_to_box(instance.mask),
                "segmentation": encode(instance.mask),
            }
        )
    return annotations
