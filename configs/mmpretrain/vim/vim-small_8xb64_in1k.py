"""Vim-S, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 64 images, float32.

tools/dist_train.sh configs/mmpretrain/vim/vim-small_8xb64_in1k.py 8

Published: top-1 80.5 (Vim, arXiv 2401.09417). DeiT draws every image three times per epoch; this
does not.
"""

_base_ = [
    "../_base_/models/vim.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_deit.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.05),
    head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=512)
