"""PlainMamba-L3, ImageNet-1k, 224 x 224, 300 epochs, 4 GPUs x 256 images.

tools/dist_train.sh configs/mmpretrain/plainmamba/plainmamba-l3_4xb256_in1k.py 4

Published: top-1 82.3 (PlainMamba, arXiv 2403.17695).
"""

_base_ = [
    "../_base_/models/plainmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="L3", drop_path_rate=0.4),
    head=dict(in_channels=448),
)
optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=dict(max_norm=1.0))
train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=1024)
