"""QuadMamba as a classifier: LN of the last stage, average pool, linear; mixup and cutmix as Swin.

Leaves set arch, drop_path_rate and head.in_channels.
"""

_base_ = "mmpretrain::_base_/models/swin_transformer/tiny_224.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.QuadMamba", out_indices=(3,)),
    head=dict(init_cfg=[dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0)]),
    # The backbone initialises itself.
    init_cfg=None,
)
