"""Mask R-CNN, FPN, MambaVision-S, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/mambavision/mask-rcnn_mambavision-small_fpn_1x_coco.py 8

Published: none; to compare with the other backbones here. The paper has Cascade Mask R-CNN.
"""

_base_ = [
    "../_base_/models/mask-rcnn_mambavision_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small"),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
