"""Mask R-CNN, FPN, GroupMamba-T, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/groupmamba/mask-rcnn_groupmamba-tiny_fpn_1x_coco.py 8

The release has no detectors; the recipe is VMamba's.
Published: box AP 47.6, mask AP 42.9 (GroupMamba, CVPR 2025, arXiv 2407.13772, as others cite
it; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_groupmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[64, 128, 348, 448]),
)
