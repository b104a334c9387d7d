"""Vim-T, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images, float32.

tools/dist_train.sh configs/mmpretrain/vim/vim-tiny_8xb128_in1k.py 8

Published: top-1 76.1 (Vim, arXiv 2401.09417). DeiT draws every image three times per epoch; this
does not.
"""

_base_ = [
    "../_base_/models/vim.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_deit.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny", drop_path_rate=0.0),
    head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
