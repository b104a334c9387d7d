"""AdamW as DeiT trains, for Vim: 5 epochs of warm-up, no clipping; leaves set the weight decay."""

_base_ = "./imagenet_bs1024_adamw.py"

optim_wrapper = dict(clip_grad=None)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=5),
]
