"""mmseg's UperNet as with Swin, on a GroupMamba backbone; leaves set arch and in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./upernet_quadmamba.py"

model = dict(backbone=dict(type="mmquad.GroupMamba", drop_path_rate=0.2))
