"""Writes generated scenes as a semantic segmentation data set laid out as ADE20K."""

from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from mmquad.datasets.generated import build_splits
from mmquad.datasets.image_files import write_jpeg, write_label_map
from mmquad.datasets.shape_outlines import SHAPE_CLASSES, SHAPE_PALETTE
from mmquad.datasets.shapes_scene import BRIGHT_OBJECTS, Scene, SceneParams, draw_scene

SEGMENTATION_CLASSES = ("background", *SHAPE_CLASSES)
"""Names of the classes; class i has the value i + 1 in the files, as in ADE20K."""

SEGMENTATION_PALETTE = ((238, 232, 213), *SHAPE_PALETTE)
"""RGB colours to draw results with, one per class."""

SEGMENTATION_PARAMS = replace(
    BRIGHT_OBJECTS,
    side_range=(96, 128),
    max_objects=4,
    object_sizes=(24.0, 56.0),
    large_prob=0.0,
    crowd_prob=0.0,
)
"""Smaller images of larger, brighter objects than for detection."""

# Raise it with every change that makes the same parameters give other data.
_VERSION = 1
_SPLITS = {"training": "train", "validation": "val"}


def generate_shapes_ade(
    root: str | Path,
    num_train: int = 600,
    num_val: int = 80,
    seed: int = 0,
    scene_params: SceneParams | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Generates the shapes data set in ADE20K's format.

    The folder is laid out as `data/ade/ADEChallengeData2016` is: `images/{training,validation}` and
    `annotations/{training,validation}` with equal names. A label map has 0 where nothing counts
    (`reduce_zero_label=True` makes that mmseg's ignore index) and i + 1 for class i of
    `SEGMENTATION_CLASSES`. The pixels on both sides of an outline are a mixture of two surfaces, so
    they are 0. Crowds are labelled like other objects.

    Args:
        root: The folder to make. If it already holds this data set, nothing is done.
        num_train: Number of training images.
        num_val: Number of validation images.
        seed: Seed of all randomness.
        scene_params: What the images look like; `SEGMENTATION_PARAMS` if None. With equal seed and
            parameters the scenes are those of `generate_shapes_coco`.
        overwrite: Whether to replace a generated data set with other parameters.

    Returns:
        The folder.

    Raises:
        FileExistsError: `root` holds something else, see `build_once`.

    Example:
        >>> generate_shapes_ade("data/shapes_ade", num_train=8, num_val=2)  # doctest: +SKIP
    """
    params = scene_params or SEGMENTATION_PARAMS

    def write_split(folder: Path, split: str, seeds: list[np.random.SeedSequence]) -> None:
        image_folder, label_folder = folder / "images" / split, folder / "annotations" / split
        image_folder.mkdir(parents=True)
        label_folder.mkdir(parents=True)
        for number, image_seed in enumerate(seeds, start=1):
            scene = draw_scene(np.random.default_rng(image_seed), params)
            name = f"ADE_{_SPLITS[split]}_{number:08d}"
            write_jpeg(image_folder / f"{name}.jpg", scene.image)
            write_label_map(label_folder / f"{name}.png", label_map(scene))

    stamp = {"format": "ade20k", "version": _VERSION, "scene_params": asdict(params)}
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    return build_splits(root, stamp, counts, seed, write_split, overwrite=overwrite)


def label_map(scene: Scene) -> np.ndarray:
    """The label map of a scene: uint8, [H, W]; 0 where nothing counts, else class + 1."""
    labels = np.ones(scene.image.shape[:2], dtype=np.uint8)
    for instance in scene.instances:
        labels[instance.mask] = instance.label + 2
    kernel = np.ones((3, 3), np.uint8)
    # only a uniform neighbourhood is free of mixed pixels
    labels[cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)] = 0
    return labels
