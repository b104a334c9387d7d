"""PlainMamba as a classifier: LN, average pool, linear; mixup and cutmix as Swin.

Leaves set arch, drop_path_rate and head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(_delete_=True, type="mmquad.PlainMamba"))
