"""LocalMamba's schedule: weight decay 0.04, cosine from 1e-3 to 1e-6, no gradient clipping."""

_base_ = "./imagenet_bs1024_adamw.py"

optim_wrapper = dict(optimizer=dict(weight_decay=0.04), clip_grad=None)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=20),
]
