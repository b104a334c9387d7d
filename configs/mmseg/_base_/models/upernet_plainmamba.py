"""mmseg's UperNet on four layers of PlainMamba, all at stride 16; leaves set arch and in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./upernet_quadmamba.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.PlainMamba", out_indices=(5, 11, 17, 23)),
    auxiliary_head=dict(in_index=3),
)
