"""UperNet, Vim-T, ADE20K, 512 x 512 crops, 60k iterations, 4 GPUs x 8 images.

tools/dist_train.sh configs/mmseg/vim/upernet_vim-tiny_4xb8-60k_ade20k-512x512.py 4

Published: mIoU 40.2 (as tables cite Vim, arXiv 2401.09417). Positions are those of the patches; the
release shifts them.
"""

_base_ = [
    "../_base_/models/upernet_vim.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_60k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="tiny"),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192] * 4, channels=192),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=0.0002, weight_decay=0.1))
train_dataloader = dict(batch_size=8)
