"""UperNet, LocalVim-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh configs/mmseg/localmamba/upernet_localvim-tiny_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 43.4 single-scale, 44.4 multi-scale (LocalMamba, arXiv 2403.09338;
ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_localvim.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="tiny"))
