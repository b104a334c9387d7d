"""The runtime of a direction search: its log; no averaged weights, the trained ones count."""

_base_ = "./runtime_no-ema.py"

custom_hooks = [*_base_.custom_hooks, dict(type="mmquad.DirectionLogHook", interval=200)]
