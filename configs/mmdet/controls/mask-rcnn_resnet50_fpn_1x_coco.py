"""Mask R-CNN, FPN, ResNet-50, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_resnet50_fpn_1x_coco.py 8

Published: box AP 38.6, mask AP 35.2 (QuadMamba, arXiv 2410.06806, Table 2; ImageNet weights).
"""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(depth=50, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50")),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
