"""RetinaNet, FPN, EfficientVMamba-B, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/efficientvmamba/retinanet_efficientvmamba-base_fpn_1x_coco.py 8

Published: box AP 42.8 (EfficientVMamba, AAAI 2025, arXiv 2403.09977; ImageNet weights).
"""

_base_ = [
    "../_base_/models/retinanet_efficientvmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[192, 384, 768]),
)
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
