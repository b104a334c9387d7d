"""AdamW for 160k iterations, Swin's settings for ADE20K: total batch 16, linear decay."""

_base_ = "mmseg::_base_/schedules/schedule_160k.py"

optim_wrapper = dict(
    constructor="mmquad.StateSpaceOptimWrapperConstructor",
    optimizer=dict(_delete_=True, type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
default_hooks = dict(
    checkpoint=dict(
        type="mmquad.AtomicCheckpointHook",
        max_keep_ckpts=2,
        save_best="mIoU",
        rule="greater",
    )
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
