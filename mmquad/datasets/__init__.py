"""The small generated data set of geometric shapes, for demonstrations and tests."""

from mmquad.datasets.shapes_coco import generate_shapes_coco
from mmquad.datasets.shapes_scene import (
    SHAPE_CLASSES,
    SHAPE_PALETTE,
    Scene,
    SceneInstance,
    SceneParams,
    draw_scene,
)

__all__ = [
    "SHAPE_CLASSES",
    "SHAPE_PALETTE",
    "Scene",
    "SceneInstance",
    "SceneParams",
    "draw_scene",
    "generate_shapes_coco",
]
