"""mmpretrain's runtime, random numbers that survive a resumption, averaged weights (0.9999)."""

_base_ = "mmpretrain::_base_/default_runtime.py"

custom_hooks = [
    dict(type="mmquad.EpochSeedHook"),
    dict(type="mmquad.ClassCheckHook"),
    dict(type="mmquad.FiniteGuardHook"),
    dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL"),
]
default_hooks = dict(
    checkpoint=dict(
        type="mmquad.AtomicCheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="accuracy/top1",
        rule="greater",
    )
)
