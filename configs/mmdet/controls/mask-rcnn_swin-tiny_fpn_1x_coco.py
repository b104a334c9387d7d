"""Mask R-CNN, FPN, Swin-T, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_swin-tiny_fpn_1x_coco.py 8

Published: box AP 42.7, mask AP 39.3 (VMamba, arXiv 2401.10166, Table 2; ImageNet weights).
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
        type="SwinTransformer",
        drop_path_rate=0.2,
        convert_weights=True,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth",
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"relative_position_bias_table": dict(decay_mult=0.0)})
)
