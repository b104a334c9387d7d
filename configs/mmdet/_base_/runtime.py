"""mmdet's runtime, with random numbers that survive a resumption and few checkpoints kept."""

_base_ = ["mmdet::_base_/default_runtime.py", "../../_base_/training_hooks.py"]

default_hooks = dict(
    checkpoint=dict(
        type="mmquad.AtomicCheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="coco/bbox_mAP",
        rule="greater",
    )
)
