r"""UperNet, Spatial-Mamba-B, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmseg/spatialmamba/upernet_spatialmamba-base_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 51.8 single-scale, 52.6 multi-scale (Spatial-Mamba, ICLR 2025, arXiv 2410.15091;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_spatialmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="base", drop_path_rate=0.5),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
