"""Mask R-CNN, simple pyramid, PlainMamba-L3, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/plainmamba/mask-rcnn_plainmamba-l3_sfp_ms-3x_coco.py 8

Published: none. The paper has 1x only, with another neck and head: a ViT-Adapter and Shared4Conv1FC
with SyncBN.
"""

_base_ = [
    "../_base_/models/mask-rcnn_plainmamba_sfp.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="L3", drop_path_rate=0.3),
    neck=dict(in_channels=448),
)
