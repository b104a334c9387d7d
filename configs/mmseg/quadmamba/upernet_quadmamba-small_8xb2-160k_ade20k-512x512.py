"""UperNet, QuadMamba-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/quadmamba/upernet_quadmamba-small_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 47.2 single-scale, 48.1 multi-scale (QuadMamba, NeurIPS 2024, arXiv 2410.06806;
ImageNet weights). Drop path 0.2 is our choice: the paper gives none for segmentation.
"""

_base_ = [
    "../_base_/models/upernet_quadmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="small", drop_path_rate=0.2),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
