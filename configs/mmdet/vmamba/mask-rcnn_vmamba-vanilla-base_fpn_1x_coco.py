"""Mask R-CNN, FPN, VMamba Vanilla-B, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vmamba/mask-rcnn_vmamba-vanilla-base_fpn_1x_coco.py 8

Published: box AP 48.6, mask AP 43.3 (VMamba, arXiv 2401.10166; ImageNet weights). Drop path is that
of the release, which inherits it from Swin.
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="vanilla-base", drop_path_rate=0.2),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
