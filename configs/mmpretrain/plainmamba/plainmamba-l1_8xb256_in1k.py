"""PlainMamba-L1, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 256 images.

tools/dist_train.sh configs/mmpretrain/plainmamba/plainmamba-l1_8xb256_in1k.py 8

Published: top-1 77.9 (PlainMamba, arXiv 2403.17695). As in the release, L1 alone warms up for 15
epochs and its weights are not averaged.
"""

_base_ = [
    "../_base_/models/plainmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime_no-ema.py",
]

model = dict(
    backbone=dict(arch="L1", drop_path_rate=0.2),
    head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=0.002), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, end=15, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=15),
]
train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=2048)
