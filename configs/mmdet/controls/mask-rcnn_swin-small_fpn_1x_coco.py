"""Mask R-CNN, FPN, Swin-S, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_swin-small_fpn_1x_coco.py 8

Published: box AP 44.8, mask AP 40.9 (VMamba, arXiv 2401.10166, Table 2; ImageNet weights).
"""

_base_ = "./mask-rcnn_swin-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        depths=[2, 2, 18, 2],
        init_cfg=dict(
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth"
        ),
    ),
)
