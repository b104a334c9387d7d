"""Mask R-CNN as in ViTDet on a LocalVim backbone: simple pyramid, deeper heads; leaves set arch.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

_norm = dict(type="GN", num_groups=32)
_pad = dict(type="BatchFixedSizePad", size=(1024, 1024), pad_mask=True)
model = dict(
    data_preprocessor=dict(batch_augments=[_pad]),
    backbone=dict(_delete_=True, type="mmquad.LocalVim", drop_path_rate=0.1),
    neck=dict(_delete_=True, type="mmquad.SimpleFeaturePyramid", in_channels=192),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type="Shared4Conv1FCBBoxHead", norm_cfg=_norm),
        mask_head=dict(norm_cfg=_norm),
    ),
)
