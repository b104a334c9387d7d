"""MambaVision-T, ImageNet-1k, 224 x 224, 320 epochs, 32 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/mambavision/mambavision-tiny_32xb128_in1k.py 32

Published: top-1 82.3 (MambaVision, CVPR 2025, arXiv 2407.08083; with MESA, which is not here).
"""

_base_ = [
    "../_base_/models/mambavision.py",
    "../_base_/datasets/imagenet_bs128_224_whole.py",
    "../_base_/schedules/imagenet_bs4096_lamb.py",
    "../_base_/runtime_ema-9998.py",
]

model = dict(
    backbone=dict(arch="tiny", drop_path_rate=0.2),
    head=dict(in_channels=640),
)
