"""UperNet, Vim-S, ADE20K, 512 x 512 crops, 60k iterations, 4 GPUs x 8 images.

tools/dist_train.sh configs/mmseg/vim/upernet_vim-small_4xb8-60k_ade20k-512x512.py 4

Published: mIoU 44.9 (as tables cite Vim, arXiv 2401.09417). Without the layer-wise decay of the
release, which its code applies to no Mamba layer.
"""

_base_ = [
    "../_base_/models/upernet_vim.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_60k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="small"),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=0.0001, weight_decay=0.05))
train_dataloader = dict(batch_size=8)
