"""EfficientVMamba as a classifier: LN, average pool, linear; mixup 0.2 and cutmix 1.

Leaves set arch, head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(
    backbone=dict(type="mmquad.EfficientVMamba", drop_path_rate=0.1),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]),
)
