r"""UperNet, EfficientVMamba-S, ADE20K, 512 x 512, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmseg/efficientvmamba/upernet_efficientvmamba-small_8xb2-160k_ade20k-512x512.py 8

Published: none with heads of 512 channels; the paper's have 384.
"""

_base_ = [
    "../_base_/models/upernet_efficientvmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="small"),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
