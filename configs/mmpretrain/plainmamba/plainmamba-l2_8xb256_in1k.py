"""PlainMamba-L2, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 256 images.

tools/dist_train.sh configs/mmpretrain/plainmamba/plainmamba-l2_8xb256_in1k.py 8

Published: top-1 81.6 (PlainMamba, arXiv 2403.17695).
"""

_base_ = [
    "../_base_/models/plainmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="L2", drop_path_rate=0.2),
    head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=0.002), clip_grad=dict(max_norm=1.0))
train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=2048)
