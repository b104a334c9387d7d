"""The runtime of ImageNet: weights are averaged (0.9998), and the averages are tested."""

_base_ = "./runtime_no-ema.py"

custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", momentum=2e-4, priority="ABOVE_NORMAL"),
]
