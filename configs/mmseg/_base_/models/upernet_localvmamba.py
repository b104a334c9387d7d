"""mmseg's UperNet as with Swin, on a LocalVMamba backbone; leaves set arch and drop_path_rate.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./upernet_quadmamba.py"

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(type="mmquad.LocalVMamba"),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
