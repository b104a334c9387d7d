"""UperNet, Swin-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_swin-tiny_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 44.5 single-scale, 45.8 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
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
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth",
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768], num_classes=150),
    auxiliary_head=dict(in_channels=384, num_classes=150),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"relative_position_bias_table": dict(decay_mult=0.0)})
)
