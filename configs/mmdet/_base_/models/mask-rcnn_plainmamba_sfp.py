"""mmdet's Mask R-CNN on PlainMamba with ViTDet's simple pyramid; leaves set arch, in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "./mask-rcnn_vim_sfp.py"

model = dict(backbone=dict(_delete_=True, type="mmquad.PlainMamba"))
