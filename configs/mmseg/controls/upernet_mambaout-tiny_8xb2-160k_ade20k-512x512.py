"""UperNet, MambaOut-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_mambaout-tiny_8xb2-160k_ade20k-512x512.py 8

Needs timm; its weights: --cfg-options model.backbone.pretrained=True
Published: no figure.
"""

_base_ = [
    "mmseg::_base_/models/upernet_swin.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type="mmpretrain.TIMMBackbone",
        model_name="mambaout_tiny",
        features_only=True,
        feature_cls="getter",  # which gives [B, C, H, W]
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    ),
    decode_head=dict(in_channels=[96, 192, 384, 576], num_classes=150),
    auxiliary_head=dict(in_channels=384, num_classes=150),
)
