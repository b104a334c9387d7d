"""Mask R-CNN, FPN, VMamba Vanilla-T, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vmamba/mask-rcnn_vmamba-vanilla-tiny_fpn_1x_coco.py 8

Published: box AP 46.5, mask AP 42.1 (VMamba, arXiv 2401.10166; ImageNet weights). Drop path is that
of the release, which inherits it from Swin.
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="vanilla-tiny", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
