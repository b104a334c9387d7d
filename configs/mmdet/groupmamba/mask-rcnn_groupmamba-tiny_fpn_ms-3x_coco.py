"""Mask R-CNN, FPN, GroupMamba-T, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/groupmamba/mask-rcnn_groupmamba-tiny_fpn_ms-3x_coco.py 8

The release has no detectors; the recipe is VMamba's.
Published: no figure.
"""

_base_ = [
    "../_base_/models/mask-rcnn_groupmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[64, 128, 348, 448]),
)
