"""EfficientVMamba-B, ImageNet-1k, 224 x 224, 300 epochs, 16 GPUs x 64 images.

tools/dist_train.sh configs/mmpretrain/efficientvmamba/efficientvmamba-base_16xb64_in1k.py 16

Published: top-1 81.8 (EfficientVMamba, AAAI 2025, arXiv 2403.09977).
"""

_base_ = [
    "../_base_/models/efficientvmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=1024)
