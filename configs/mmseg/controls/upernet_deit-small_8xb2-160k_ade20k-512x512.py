"""UperNet, DeiT-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_deit-small_8xb2-160k_ade20k-512x512.py 8

The host's network, with its multi-level neck. Weights, as mmseg's vit2mmseg.py converts them:
--cfg-options model.pretrained=/path/to/weights.pth
Published: mIoU 43.8 single-scale, 45.1 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
"""

_base_ = [
    "mmseg::_base_/models/upernet_vit-b16_ln_mln.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(num_heads=6, embed_dims=384, drop_path_rate=0.1, final_norm=False),
    neck=dict(in_channels=[384, 384, 384, 384], out_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], num_classes=150),
    auxiliary_head=dict(in_channels=384, num_classes=150),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={"pos_embed": dict(decay_mult=0.0), "cls_token": dict(decay_mult=0.0)}
    )
)
