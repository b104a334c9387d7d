"""AdamW, 2e-3 at total batch 2048, 300 epochs of which 20 warm up, clip 1; EfficientVMamba's."""

_base_ = "./imagenet_bs1024_adamw.py"

optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=0.04),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=5e-5, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=20),
]
auto_scale_lr = dict(base_batch_size=2048)
