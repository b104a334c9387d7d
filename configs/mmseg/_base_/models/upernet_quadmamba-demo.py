"""UperNet narrow enough to train on two CPU cores."""

_base_ = "./upernet_quadmamba.py"

model = dict(
    backbone=dict(arch=dict(dim=32, depths=(1, 1, 2, 1), ssm_ratio=1.0)),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
