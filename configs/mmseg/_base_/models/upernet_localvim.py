"""mmseg's UperNet on four layers of a LocalVim, scaled to strides 4, 8, 16, 32; leaves set arch.

The release gives UperNet the four maps at stride 16 as they are. From random weights unless you
give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./upernet_quadmamba.py"

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(type="mmquad.LocalVim", out_indices=(4, 9, 14, 19), drop_path_rate=0.1),
    neck=dict(
        type="Feature2Pyramid",
        embed_dim=192,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
