"""VMamba Vanilla-T as vmamba-vanilla-tiny_8xb128_in1k, with the weight decay of the release.

tools/dist_train.sh configs/mmpretrain/vmamba/vmamba-vanilla-tiny_8xb128-released-decay_in1k.py 8

Published: top-1 82.2 (VMamba, arXiv 2401.10166).
"""

_base_ = [
    "../_base_/models/vmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_released-decay.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="vanilla-tiny", drop_path_rate=0.2),
    head=dict(in_channels=768),
)
