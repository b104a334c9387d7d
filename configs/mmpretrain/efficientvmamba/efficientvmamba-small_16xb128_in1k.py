"""EfficientVMamba-S, ImageNet-1k, 224 x 224, 300 epochs, 16 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/efficientvmamba/efficientvmamba-small_16xb128_in1k.py 16

Published: top-1 78.7 (EfficientVMamba, AAAI 2025, arXiv 2403.09977).
"""

_base_ = [
    "../_base_/models/efficientvmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small"),
    head=dict(in_channels=512),
)
