"""mmdet's Mask R-CNN with FPN on a GroupMamba backbone; leaves set arch and neck.in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./mask-rcnn_quadmamba_fpn.py"

model = dict(backbone=dict(type="mmquad.GroupMamba", drop_path_rate=0.2))
