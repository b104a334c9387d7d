"""A small LocalVMamba, generated images of single shapes: from scratch on a CPU.

python tools/train.py configs/mmpretrain/localmamba/localvmamba-demo_shapes.py
"""

_base_ = [
    "../_base_/models/localvmamba.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/imagenet_bs1024_adamw_localmamba.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(
        arch=dict(dim=32, depths=(1, 1, 2, 1), d_state=4),
        # The usual std of 0.02 leaves residual branches this narrow almost linear for long.
        init_cfg=[
            dict(type="Kaiming", layer="Conv2d", mode="fan_in"),
            dict(type="Xavier", layer="Linear", distribution="uniform"),
        ],
    ),
    head=dict(num_classes=4, in_channels=256, topk=(1,)),
    train_cfg=None,  # no mixup: the shapes are what is to be learned
)
max_epochs = 10
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=8e-4), clip_grad=dict(_delete_=True, max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=32)
# Without averaged weights: 0.9999 of the random ones would be left for long.
custom_hooks = [
    dict(type="mmquad.EpochSeedHook"),
    dict(type="mmquad.ClassCheckHook"),
    dict(type="mmquad.FiniteGuardHook"),
]
default_hooks = dict(logger=dict(interval=10))
randomness = dict(seed=0)
