r"""UperNet, GroupMamba-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmseg/groupmamba/upernet_groupmamba-small_8xb2-160k_ade20k-512x512.py 8

The release has no segmentors; the recipe is VMamba's.
Published: no figure.
"""

_base_ = [
    "../_base_/models/upernet_groupmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="small"),
    decode_head=dict(in_channels=[64, 128, 348, 512]),
    auxiliary_head=dict(in_channels=348),
)
