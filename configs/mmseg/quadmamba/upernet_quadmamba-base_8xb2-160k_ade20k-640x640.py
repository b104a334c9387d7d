"""UperNet, QuadMamba-B, ADE20K, 640 x 640 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/quadmamba/upernet_quadmamba-base_8xb2-160k_ade20k-640x640.py 8

Published: the paper (arXiv 2410.06806) trains at 640 x 640 too; we have no figure of it at hand.
Drop path 0.3 is our choice: the paper gives none for segmentation.
"""

_base_ = [
    "../_base_/models/upernet_quadmamba.py",
    "../_base_/datasets/ade20k-640x640.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(arch="base", drop_path_rate=0.3),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
