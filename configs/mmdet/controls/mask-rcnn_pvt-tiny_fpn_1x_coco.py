"""Mask R-CNN, FPN, PVT-T, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_pvt-tiny_fpn_1x_coco.py 8

Published: box AP 36.7, mask AP 35.1 (QuadMamba, arXiv 2410.06806, Table 2; ImageNet weights).
"""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="PyramidVisionTransformer",
        num_layers=[2, 2, 2, 2],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth"
        ),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"pos_embed": dict(decay_mult=0.0)}))
