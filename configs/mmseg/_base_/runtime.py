"""mmseg's runtime; the order of the data survives a resumption."""

_base_ = "mmseg::_base_/default_runtime.py"

custom_hooks = [
    dict(type="mmquad.EpochSeedHook"),
    dict(type="mmquad.ClassCheckHook"),
    dict(type="mmquad.FiniteGuardHook"),
]
