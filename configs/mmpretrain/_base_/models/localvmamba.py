"""LocalVMamba as a classifier: LN of the last stage, average pool, linear; mixup 0.2 and cutmix.

Leaves set arch and drop_path_rate.
"""

_base_ = "mmpretrain::_base_/models/swin_transformer/tiny_224.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.LocalVMamba", out_indices=(3,)),
    head=dict(init_cfg=[dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0)]),
    # The backbone initialises itself.
    init_cfg=None,
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]),
)
