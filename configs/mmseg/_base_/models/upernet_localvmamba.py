"""mmseg's UperNet as with Swin, on a LocalVMamba backbone; leaves set arch and drop_path_rate.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmseg::_base_/models/upernet_swin.py"

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, type="mmquad.LocalVMamba", out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[96, 192, 384, 768], num_classes=150),
    auxiliary_head=dict(in_channels=384, num_classes=150),
)
