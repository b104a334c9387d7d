"""Mask R-CNN, FPN, VMamba T[s1l8], COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vmamba/mask-rcnn_vmamba-tiny-s1l8_fpn_ms-3x_coco.py 8

Published: box AP 48.8, mask AP 43.7 (VMamba, arXiv 2401.10166; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny-s1l8", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
