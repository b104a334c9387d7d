"""Mask R-CNN, simple pyramid, PlainMamba-L3, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/plainmamba/mask-rcnn_plainmamba-l3_sfp_1x_coco.py 8

Published: box AP 46.8, mask AP 41.2 (PlainMamba, arXiv 2403.17695) with another neck and head: a
ViT-Adapter and Shared4Conv1FC with SyncBN.
"""

_base_ = [
    "../_base_/models/mask-rcnn_plainmamba_sfp.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="L3", drop_path_rate=0.3),
    neck=dict(in_channels=448),
)
