"""UperNet, VMamba B[s2l15], ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/vmamba/upernet_vmamba-base-s2l15_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 51.0 single-scale, 51.6 multi-scale (VMamba, arXiv 2401.10166; ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_vmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="base-s2l15", drop_path_rate=0.6),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
