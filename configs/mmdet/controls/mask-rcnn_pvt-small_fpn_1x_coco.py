"""Mask R-CNN, FPN, PVT-S, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_pvt-small_fpn_1x_coco.py 8

Published: box AP 40.4, mask AP 37.8 (QuadMamba, arXiv 2410.06806, Table 2; ImageNet weights).
"""

_base_ = "./mask-rcnn_pvt-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_small.pth"
        ),
    )
)
