"""The small generated data set of geometric shapes, for demonstrations and tests."""

from mmquad.datasets.shape_outlines import SHAPE_CLASSES, SHAPE_PALETTE
from mmquad.datasets.shapes_ade import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    generate_shapes_ade,
)
from mmquad.datasets.shapes_coco import generate_shapes_coco
from mmquad.datasets.shapes_imagenet import CLASSIFICATION_CLASSES, generate_shapes_imagenet
from mmquad.datasets.shapes_scene import Scene, SceneInstance, SceneParams, draw_scene

__all__ = [
    "CLASSIFICATION_CLASSES",
    "SEGMENTATION_CLASSES",
    "SEGMENTATION_PALETTE",
    "SHAPE_CLASSES",
    "SHAPE_PALETTE",
    "Scene",
    "SceneInstance",
    "SceneParams",
    "draw_scene",
    "generate_shapes_ade",
    "generate_shapes_coco",
    "generate_shapes_imagenet",
]
