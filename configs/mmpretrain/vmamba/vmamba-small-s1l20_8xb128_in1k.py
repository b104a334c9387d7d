"""VMamba S[s1l20], ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/vmamba/vmamba-small-s1l20_8xb128_in1k.py 8

Published: top-1 83.3 (VMamba, arXiv 2401.10166).
"""

_base_ = [
    "../_base_/models/vmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="small-s1l20", drop_path_rate=0.3),
    head=dict(in_channels=768),
)
