"""Mask R-CNN, FPN, GroupMamba-S, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/groupmamba/mask-rcnn_groupmamba-small_fpn_1x_coco.py 8

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
    backbone=dict(arch="small"),
    neck=dict(in_channels=[64, 128, 348, 512]),
)
