"""AdamW for 60k iterations, Vim's settings for ADE20K: total batch 32; leaves set lr and decay."""

_base_ = "./adamw_160k.py"

train_cfg = dict(max_iters=60000, val_interval=6000)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=60000),
]
default_hooks = dict(checkpoint=dict(interval=6000))
auto_scale_lr = dict(enable=False, base_batch_size=32)
