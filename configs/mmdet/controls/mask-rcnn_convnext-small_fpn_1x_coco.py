"""Mask R-CNN, FPN, ConvNeXt-S, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_convnext-small_fpn_1x_coco.py 8

Published: box AP 45.4, mask AP 41.8 (VMamba, arXiv 2401.10166, Table 2; ImageNet weights).
"""

_base_ = "./mask-rcnn_convnext-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        arch="small",
        drop_path_rate=0.6,
        init_cfg=dict(
            checkpoint="https://mmassets.onedl.ai/mmclassification/v0/convnext/downstream/convnext-small_3rdparty_32xb128-noema_in1k_20220301-303e75e3.pth",
        ),
    )
)
