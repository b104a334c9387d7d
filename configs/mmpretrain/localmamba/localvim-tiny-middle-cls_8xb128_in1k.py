"""LocalVim-T with a class token and no rotary embedding.

ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images:
tools/dist_train.sh configs/mmpretrain/localmamba/localvim-tiny-middle-cls_8xb128_in1k.py 8

Published: top-1 accuracy 77.8 (README of the LocalMamba release).
"""

_base_ = [
    "../_base_/models/localvim.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_localmamba.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny-middle-cls", out_type="class_token", drop_path_rate=0.1),
    neck=None,
)
