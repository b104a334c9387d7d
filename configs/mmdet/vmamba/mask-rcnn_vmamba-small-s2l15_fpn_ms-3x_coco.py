"""Mask R-CNN, FPN, VMamba S[s2l15], COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vmamba/mask-rcnn_vmamba-small-s2l15_fpn_ms-3x_coco.py 8

Published: box AP 49.9, mask AP 44.2 (VMamba, arXiv 2401.10166; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small-s2l15", drop_path_rate=0.3),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
