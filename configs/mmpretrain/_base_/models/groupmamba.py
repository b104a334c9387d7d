"""GroupMamba as a classifier: its class token, linear; otherwise as QuadMamba.

Leaves set arch, drop_path_rate, head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(type="mmquad.GroupMamba", out_type="class_token"), neck=None)
