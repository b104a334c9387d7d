"""LocalVim as a classifier: RMSNorm, average pool, linear; mixup 0.2 and cutmix.

Leaves set arch, drop_path_rate and head.in_channels.
"""

_base_ = "./localvmamba.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.LocalVim"),
    head=dict(in_channels=192),
)
