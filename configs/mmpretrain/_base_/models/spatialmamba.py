"""Spatial-Mamba as a classifier, otherwise as QuadMamba.

Leaves set arch, drop_path_rate, head.in_channels.
"""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(type="mmquad.SpatialMamba"))
