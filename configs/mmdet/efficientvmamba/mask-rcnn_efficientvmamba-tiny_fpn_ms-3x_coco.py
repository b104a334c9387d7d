"""Mask R-CNN, FPN, EfficientVMamba-T, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/efficientvmamba/mask-rcnn_efficientvmamba-tiny_fpn_ms-3x_coco.py 8

Published: none with these heads; the paper's have 64 channels.
"""

_base_ = [
    "../_base_/models/mask-rcnn_efficientvmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[48, 96, 192, 384]),
)
