"""Mask R-CNN, FPN, GroupMamba-B, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/groupmamba/mask-rcnn_groupmamba-base_fpn_1x_coco.py 8

The release has no detectors; the recipe is VMamba's.
Published: no figure.
"""

_base_ = [
    "../_base_/models/mask-rcnn_groupmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[96, 192, 424, 512]),
)
