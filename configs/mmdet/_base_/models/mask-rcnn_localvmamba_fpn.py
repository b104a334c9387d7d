"""mmdet's Mask R-CNN with FPN on a LocalVMamba backbone; leaves set arch.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./mask-rcnn_quadmamba_fpn.py"

model = dict(
    backbone=dict(type="mmquad.LocalVMamba", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
