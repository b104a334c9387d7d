"""Hooks of every training: order of the data after a resumption, names of classes, NaN."""

custom_hooks = [
    dict(type="mmquad.EpochSeedHook"),
    dict(type="mmquad.ClassCheckHook"),
    dict(type="mmquad.FiniteGuardHook"),
]
