"""Vim-S with overlapping patches, ImageNet-1k, 30 epochs of fine-tuning, 8 GPUs x 128.

tools/dist_train.sh configs/mmpretrain/vim/vim-small-stride8_8xb128-ft_in1k.py 8

Published: top-1 81.6 (Vim, arXiv 2401.09417), from the weights of vim-small, whose positions are
resized while loading.
"""

_base_ = [
    "../_base_/models/vim.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_finetune.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small-stride8", drop_path_rate=0.05),
    head=dict(in_channels=384),
)
