"""Mask R-CNN, FPN, VMamba B[s2l15], COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vmamba/mask-rcnn_vmamba-base-s2l15_fpn_1x_coco.py 8

Published: box AP 49.2, mask AP 44.1 (VMamba, arXiv 2401.10166; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base-s2l15", drop_path_rate=0.6),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
