"""UperNet, LocalVim-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/localmamba/upernet_localvim-small_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 46.4 single-scale, 47.5 multi-scale (LocalMamba, arXiv 2403.09338;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_localvim.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small"),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
