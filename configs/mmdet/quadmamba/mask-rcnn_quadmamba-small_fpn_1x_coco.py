"""Mask R-CNN, FPN, QuadMamba-S, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-small_fpn_1x_coco.py 8

Published: box AP 46.7, mask AP 42.4 (QuadMamba, NeurIPS 2024, arXiv 2410.06806; ImageNet weights).
Drop path 0.2 is our choice: the paper gives none for detection.
"""

_base_ = [
    "../_base_/models/mask-rcnn_quadmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
