"""Vim as a classifier: its class token, linear; mixup and cutmix as DeiT.

Leaves set arch, drop_path_rate and head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.Vim", out_type="class_token"),
    neck=None,
)
