"""Mask R-CNN, FPN, Swin-B, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_swin-base_fpn_1x_coco.py 8

Published: box AP 46.9, mask AP 42.3 (VMamba, arXiv 2401.10166, Table 2; ImageNet weights).
"""

_base_ = "./mask-rcnn_swin-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        depths=[2, 2, 18, 2],
        embed_dims=128,
        num_heads=[4, 8, 16, 32],
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth"
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
