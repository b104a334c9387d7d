"""Writes generated scenes of one object as a classification data set laid out as ImageNet."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mmquad.datasets.generated import build_splits
from mmquad.datasets.image_files import write_jpeg
from mmquad.datasets.shape_outlines import SHAPE_CLASSES
from mmquad.datasets.shapes_scene import BRIGHT_OBJECTS, Scene, SceneParams, draw_scene

CLASSIFICATION_CLASSES = tuple(sorted(SHAPE_CLASSES))
"""Names of the classes and their folders; readers number folders in alphabetical order."""

OBJECT_PARAMS = replace(
    BRIGHT_OBJECTS,
    side_range=(64, 80),
    max_objects=1,
    object_sizes=(24.0, 48.0),
    large_prob=0.0,
    crowd_prob=0.0,
    empty_prob=0.0,
)
"""Small images with one bright object each."""

# Raise it with every change that makes the same parameters give other data.
_VERSION = 1


def generate_shapes_imagenet(
    root: str | Path,
    num_train: int = 3000,
    num_val: int = 400,
    seed: int = 0,
    scene_params: SceneParams | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Generates images of single shapes in ImageNet's format.

    The folder is laid out as `data/imagenet` is: `{train,val}/<class>/<image>.JPEG`. Every class
    has the same number of images, or one more than others.

    Args:
        root: The folder to make. If it already holds this data set, nothing is done.
        num_train: Number of training images.
        num_val: Number of validation images.
        seed: Seed of all randomness.
        scene_params: What the images look like; `OBJECT_PARAMS` if None. Scenes that turn out to
            have several objects, or none, are drawn again.
        overwrite: Whether to replace a generated data set with other parameters.

    Returns:
        The folder.

    Raises:
        ValueError: A split has fewer images than there are classes, or `scene_params` can never
            give an image of one object.
        FileExistsError: `root` holds something else, see `build_once`.

    Example:
        >>> generate_shapes_imagenet("data/shapes_imagenet", 8, 4)  # doctest: +SKIP
    """
    params = scene_params or OBJECT_PARAMS
    if params.empty_prob >= 1:
        raise ValueError(f"expected scenes with objects, got {params.empty_prob=}")

    def write_split(folder: Path, split: str, seeds: list[np.random.SeedSequence]) -> None:
        for name in SHAPE_CLASSES:
            (folder / split / name).mkdir(parents=True)
        for number, image_seed in enumerate(seeds):
            label = number % len(SHAPE_CLASSES)
            scene = _draw_object(np.random.default_rng(image_seed), params, label)
            path = folder / split / SHAPE_CLASSES[label] / f"{number + 1:08d}.JPEG"
            write_jpeg(path, scene.image)

    stamp = {"format": "imagenet", "version": _VERSION, "scene_params": asdict(params)}
    counts, least = {"train": num_train, "val": num_val}, len(SHAPE_CLASSES)
    return build_splits(root, stamp, counts, seed, write_split, least=least, overwrite=overwrite)


def _draw_object(rng: np.random.Generator, params: SceneParams, label: int) -> Scene:
    """The first of the scenes that follow from `rng` with one object of the wanted class."""
    while True:
        scene = draw_scene(rng, params)
        if [instance.label for instance in scene.instances] == [label]:
            return scene
