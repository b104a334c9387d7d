"""Mask R-CNN, FPN, EfficientVMamba-B, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/efficientvmamba/mask-rcnn_efficientvmamba-base_fpn_ms-3x_coco.py 8

Published: box AP 45.0, mask AP 40.8 (EfficientVMamba, AAAI 2025, arXiv 2403.09977;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_efficientvmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
