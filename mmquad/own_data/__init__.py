"""Own data: what is in it, what is wrong with it, and a config that trains on it."""

from mmquad.own_data.class_folders import read_class_folders
from mmquad.own_data.coco_labels import read_coco
from mmquad.own_data.labels import Fault, Labels, describe, images_in_both
from mmquad.own_data.new_config import new_config

__all__ = [
    "Fault",
    "Labels",
    "describe",
    "images_in_both",
    "new_config",
    "read_class_folders",
    "read_coco",
]
