"""Mask R-CNN, FPN, LocalVMamba-S, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/localmamba/mask-rcnn_localvmamba-small_fpn_1x_coco.py 8

Published: box AP 48.4, mask AP 43.2 (LocalMamba, arXiv 2403.09338; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_localvmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="small"))
