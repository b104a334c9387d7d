r"""Mask R-CNN of 64 channels, FPN, EfficientVMamba-T, COCO, 1x (12 epochs), 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmdet/efficientvmamba/mask-rcnn-c64_efficientvmamba-tiny_fpn_1x_coco.py 8

Published: box AP 35.6, mask AP 33.2 (EfficientVMamba, AAAI 2025, arXiv 2403.09977; ImageNet
weights; the widths follow from its parameters, 11 M; its FLOPs, 60 G, do not: 31 G here).
"""

_base_ = "./mask-rcnn_efficientvmamba-tiny_fpn_1x_coco.py"

model = dict(
    neck=dict(out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64),
    ),
)
