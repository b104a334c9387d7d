"""Mask R-CNN, FPN, LocalVMamba-T, COCO, 3x (36 epochs), multi-scale training, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/localmamba/mask-rcnn_localvmamba-tiny_fpn_ms-3x_coco.py 8

Published: box AP 48.7, mask AP 43.4 (LocalMamba, arXiv 2403.09338; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_localvmamba_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="tiny"))
