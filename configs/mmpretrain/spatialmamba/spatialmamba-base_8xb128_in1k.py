"""Spatial-Mamba-B, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/spatialmamba/spatialmamba-base_8xb128_in1k.py 8

Published: top-1 85.3 (Spatial-Mamba, ICLR 2025, arXiv 2410.15091; with MESA, which is not here).
"""

_base_ = [
    "../_base_/models/spatialmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base", drop_path_rate=0.5),
    head=dict(in_channels=768),
)
