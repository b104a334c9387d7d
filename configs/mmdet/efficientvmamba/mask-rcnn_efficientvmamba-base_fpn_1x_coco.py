"""Mask R-CNN, FPN, EfficientVMamba-B, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/efficientvmamba/mask-rcnn_efficientvmamba-base_fpn_1x_coco.py 8

Published: box AP 43.7, mask AP 40.2 (EfficientVMamba, AAAI 2025, arXiv 2403.09977;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_efficientvmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
