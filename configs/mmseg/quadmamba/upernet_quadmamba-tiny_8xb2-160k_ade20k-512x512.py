"""UperNet, QuadMamba-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 44.3 single-scale, 45.1 multi-scale (QuadMamba, NeurIPS 2024, arXiv 2410.06806;
ImageNet weights). Drop path 0.1 is our choice: the paper gives none for segmentation.
"""

_base_ = [
    "../_base_/models/upernet_quadmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="tiny", drop_path_rate=0.1),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
