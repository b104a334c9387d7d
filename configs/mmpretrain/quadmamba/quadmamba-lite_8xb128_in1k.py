"""QuadMamba-Li, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/quadmamba/quadmamba-lite_8xb128_in1k.py 8

Published: top-1 accuracy 74.2 (QuadMamba, NeurIPS 2024, arXiv 2410.06806).
Drop path 0.0 is our choice: the paper and its code give none for Li.
"""

_base_ = [
    "../_base_/models/quadmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="lite", drop_path_rate=0.0),
    head=dict(in_channels=384),
)
