"""The runtime of ImageNet: weights are averaged (0.9999), and the averages are tested."""

_base_ = "./runtime_no-ema.py"

custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL"),
]
