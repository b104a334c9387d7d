"""mmdet's Mask R-CNN with FPN on a MambaVision backbone; leaves set arch and neck.in_channels.

Windows are the release's for detection: up to 1792 pixels the whole map is one window.
From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./mask-rcnn_quadmamba_fpn.py"

model = dict(backbone=dict(type="mmquad.MambaVision", window=(112, 56), drop_path_rate=0.2))
