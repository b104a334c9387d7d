"""mmseg's UperNet as with Swin, on a QuadMamba backbone; leaves set arch and in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmseg::_base_/models/upernet_swin.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.QuadMamba", out_indices=(0, 1, 2, 3)),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
