"""Mask R-CNN, simple pyramid, Vim-S, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmdet/vim/mask-rcnn_vim-small_sfp_ms-3x_coco.py 8

Published: none. The paper trains Cascade Mask R-CNN in Detectron2 and publishes no figure of this.
"""

_base_ = [
    "../_base_/models/mask-rcnn_vim_sfp.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.05),
    neck=dict(in_channels=384),
)
