"""Mask R-CNN, FPN, QuadMamba-B, COCO, 3x (36 epochs), multi-scale training, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-base_fpn_ms-3x_coco.py 8

Published: none; the QuadMamba paper reports 1x only.
Drop path 0.3 is our choice: the paper gives none for detection.
"""

_base_ = [
    "../_base_/models/mask-rcnn_quadmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base", drop_path_rate=0.3),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
