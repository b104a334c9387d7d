"""MambaVision-B, ImageNet-1k, 224 x 224, 320 epochs, 32 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/mambavision/mambavision-base_32xb128_in1k.py 32

Published: top-1 84.2 (MambaVision, CVPR 2025, arXiv 2407.08083; with MESA, which is not here).
"""

_base_ = [
    "../_base_/models/mambavision.py",
    "../_base_/datasets/imagenet_bs128_224_whole.py",
    "../_base_/schedules/imagenet_bs4096_lamb.py",
    "../_base_/runtime_ema-9998.py",
]

model = dict(
    backbone=dict(arch="base", drop_path_rate=0.3),
    head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.075))
param_scheduler = [
    {**_base_.param_scheduler[0], "end": 35},
    {**_base_.param_scheduler[1], "begin": 35},
]
