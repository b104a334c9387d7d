"""Mask R-CNN, FPN, QuadMamba-Li, COCO, 3x (36 epochs), multi-scale training, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-lite_fpn_ms-3x_coco.py 8

Published: none; the QuadMamba paper reports 1x only.
Drop path 0.0 is our choice: the paper gives none for detection.
"""

_base_ = [
    "../_base_/models/mask-rcnn_quadmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="lite", drop_path_rate=0.0),
    neck=dict(in_channels=[48, 96, 192, 384]),
)
