"""A small QuadMamba, generated images of single shapes: from scratch on two CPU processes.

tools/demo/demo.sh classification
(or tools/dist_train.sh configs/mmpretrain/quadmamba/<this file> 2)
"""

_base_ = [
    "../_base_/models/quadmamba.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    # Without averaged weights: 0.9999 of the random ones would be left for long.
    "../_base_/runtime_no-ema.py",
]

model = dict(
    backbone=dict(
        arch=dict(dim=32, depths=(1, 1, 2, 1), ssm_ratio=1.0),
        # The usual std of 0.02 leaves residual branches this narrow almost linear for long.
        init_cfg=[
            dict(type="Kaiming", layer="Conv2d", mode="fan_in"),
            dict(type="Xavier", layer="Linear", distribution="uniform"),
        ],
    ),
    head=dict(num_classes=4, in_channels=256, topk=(1,)),
    train_cfg=None,  # no mixup: the shapes are what is to be learned
)
train_cfg = dict(max_epochs=16, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=4))
randomness = dict(seed=0)
