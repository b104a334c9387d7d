r"""UperNet of 256 channels, EfficientVMamba-T, ADE20K, 512 x 512, 160k, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmseg/efficientvmamba/upernet-c256_efficientvmamba-tiny_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 38.9 single-scale, 39.3 multi-scale (EfficientVMamba, AAAI 2025, arXiv 2403.09977;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_efficientvmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="tiny"),
    decode_head=dict(in_channels=[48, 96, 192, 384], channels=256),
    auxiliary_head=dict(in_channels=192),
)
