"""Mask R-CNN, FPN, MambaOut-T, COCO, 1x (12 epochs), 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmdet/controls/mask-rcnn_mambaout-tiny_fpn_1x_coco.py 8

Needs timm; its weights: --cfg-options model.backbone.pretrained=True
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
        type="mmpretrain.TIMMBackbone",
        model_name="mambaout_tiny",
        features_only=True,
        feature_cls="getter",  # which gives [B, C, H, W]
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 576]),
)
