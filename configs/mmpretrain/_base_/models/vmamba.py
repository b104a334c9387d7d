"""VMamba as a classifier, otherwise as QuadMamba; leaves set arch, drop_path_rate, in_channels."""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(type="mmquad.VMamba"))
