"""mmdet's Mask R-CNN on a Vim backbone with ViTDet's simple pyramid; leaves set arch, in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(_delete_=True, type="mmquad.Vim", class_token=False),
    neck=dict(_delete_=True, type="mmquad.SimpleFeaturePyramid"),
)
