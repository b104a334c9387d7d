"""Mask R-CNN, FPN, PVT-M, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_pvt-medium_fpn_1x_coco.py 8

Published: no figure.
"""

_base_ = "./mask-rcnn_pvt-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        num_layers=[3, 4, 18, 3],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_medium.pth"
        ),
    )
)
