"""Mask R-CNN, FPN, QuadMamba-Li, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-lite_fpn_1x_coco.py 8

Published: box AP 39.3, mask AP 36.9 (QuadMamba, NeurIPS 2024, arXiv 2410.06806; ImageNet weights).
Drop path 0.0 is our choice: the paper gives none for detection.
"""

_base_ = [
    "../_base_/models/mask-rcnn_quadmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="lite", drop_path_rate=0.0),
    neck=dict(in_channels=[48, 96, 192, 384]),
)
