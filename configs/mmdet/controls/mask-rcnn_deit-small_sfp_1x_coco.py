"""Mask R-CNN, simple pyramid, DeiT-S, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_deit-small_sfp_1x_coco.py 8

Published: no figure.
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
        type="mmpretrain.VisionTransformer",
        arch="deit-small",
        img_size=224,
        patch_size=16,
        out_type="featmap",
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://mmassets.onedl.ai/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth",
            prefix="backbone.",
        ),
    ),
    neck=dict(_delete_=True, type="mmquad.SimpleFeaturePyramid", in_channels=384),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={"pos_embed": dict(decay_mult=0.0), "cls_token": dict(decay_mult=0.0)}
    )
)
