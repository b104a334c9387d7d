"""LAMB, 5e-3 at total batch 4096, 320 epochs: 20 warm up, then a cosine to 310; mixed precision.

MambaVision's, but for its term that compares with averaged weights (MESA), which is left out.
"""

_base_ = "mmpretrain::_base_/schedules/imagenet_bs2048_rsb.py"

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(_delete_=True, type="Lamb", lr=5e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    constructor="mmquad.StateSpaceOptimWrapperConstructor",
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=2e-4,
        begin=0,
        end=20,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=5e-6,
        begin=20,
        end=310,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=320)
auto_scale_lr = dict(base_batch_size=4096)
