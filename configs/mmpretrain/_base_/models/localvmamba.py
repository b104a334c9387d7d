"""LocalVMamba as a classifier: LN of the last stage, average pool, linear; mixup 0.2 and cutmix.

Leaves set arch and drop_path_rate.
"""

_base_ = "./quadmamba.py"

model = dict(
    backbone=dict(type="mmquad.LocalVMamba"),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]),
)
