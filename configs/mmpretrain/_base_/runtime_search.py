"""The runtime of a direction search: its log; no averaged weights, the trained ones count."""

_base_ = "./runtime.py"

custom_hooks = [
    dict(type="mmquad.EpochSeedHook"),
    dict(type="mmquad.ClassCheckHook"),
    dict(type="mmquad.FiniteGuardHook"),
    dict(type="mmquad.DirectionLogHook", interval=200),
]
