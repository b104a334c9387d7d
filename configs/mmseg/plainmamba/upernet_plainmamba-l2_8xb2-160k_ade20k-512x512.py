"""UperNet, PlainMamba-L2, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/plainmamba/upernet_plainmamba-l2_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 46.8 (PlainMamba, arXiv 2403.17695). The release resizes test images to multiples of
32; here patches are padded.
"""

_base_ = [
    "../_base_/models/upernet_plainmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="L2", drop_path_rate=0.2),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
