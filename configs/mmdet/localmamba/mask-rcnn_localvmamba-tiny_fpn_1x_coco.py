"""Mask R-CNN, FPN, LocalVMamba-T, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/localmamba/mask-rcnn_localvmamba-tiny_fpn_1x_coco.py 8

Published: box AP 46.7, mask AP 42.2 (LocalMamba, arXiv 2403.09338; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_localvmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="tiny"))
