"""MambaVision as a classifier: batch norm, average pool, linear; mixup and cutmix as Swin.

Leaves set arch, drop_path_rate and head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(type="mmquad.MambaVision", output_norm="batch"))
