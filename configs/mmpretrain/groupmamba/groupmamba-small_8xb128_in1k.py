"""GroupMamba-S, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/groupmamba/groupmamba-small_8xb128_in1k.py 8

Published: top-1 83.9 (GroupMamba, CVPR 2025, arXiv 2407.13772; distilled, which is not here).
"""

_base_ = [
    "../_base_/models/groupmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.05),
    head=dict(in_channels=512),
)
