"""A network of timm as a classifier, otherwise as QuadMamba.

Leaves set model_name and head.in_channels. The last map is pooled.
"""

_base_ = "./quadmamba.py"

model = dict(backbone=dict(_delete_=True, type="TIMMBackbone"))
