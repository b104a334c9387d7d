"""RetinaNet, FPN, EfficientVMamba-T, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/efficientvmamba/retinanet_efficientvmamba-tiny_fpn_1x_coco.py 8

Published: none with these heads; the paper's are narrower.
"""

_base_ = [
    "../_base_/models/retinanet_efficientvmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[96, 192, 384]),
)
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
