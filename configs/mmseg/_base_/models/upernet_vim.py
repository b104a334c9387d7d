"""mmseg's UperNet on Vim: four layers, resized to strides 4 to 32; slide testing.

Leaves set arch, in_channels and channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./upernet_quadmamba.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.Vim", class_token=False, out_indices=(5, 11, 17, 23)),
    neck=dict(type="Feature2Pyramid", rescales=[4, 2, 1, 0.5]),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
