r"""UperNet, GroupMamba-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmseg/groupmamba/upernet_groupmamba-tiny_8xb2-160k_ade20k-512x512.py 8

The release has no segmentors; the recipe is VMamba's.
Published: mIoU 48.6 single-scale, 49.2 multi-scale (GroupMamba, CVPR 2025, arXiv 2407.13772, as
others cite it; ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_groupmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="tiny"),
    decode_head=dict(in_channels=[64, 128, 348, 448]),
    auxiliary_head=dict(in_channels=348),
)
