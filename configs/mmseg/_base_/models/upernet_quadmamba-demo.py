"""UperNet narrow enough to train on two CPU cores."""

_base_ = "./upernet_quadmamba.py"

# The pyramid pooling's 1 x 1 maps leave a batch norm as many values as there are images.
_norm = dict(_delete_=True, type="GN", num_groups=8, requires_grad=True)

model = dict(
    backbone=dict(
        arch=dict(dim=32, depths=(1, 1, 2, 1), ssm_ratio=1.0),
        # The usual std of 0.02 leaves residual branches this narrow almost linear for long.
        init_cfg=[
            dict(type="Kaiming", layer="Conv2d", mode="fan_in"),
            dict(type="Xavier", layer="Linear", distribution="uniform"),
        ],
    ),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64, norm_cfg=_norm),
    auxiliary_head=dict(in_channels=128, channels=32, norm_cfg=_norm),
)
