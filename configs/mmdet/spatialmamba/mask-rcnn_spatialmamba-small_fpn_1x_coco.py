"""Mask R-CNN, FPN, Spatial-Mamba-S, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/spatialmamba/mask-rcnn_spatialmamba-small_fpn_1x_coco.py 8

Published: box AP 49.2, mask AP 44.0 (Spatial-Mamba, ICLR 2025, arXiv 2410.15091; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_spatialmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.3),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
