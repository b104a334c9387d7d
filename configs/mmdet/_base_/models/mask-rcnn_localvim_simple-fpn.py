"""Mask R-CNN as in ViTDet on a LocalVim backbone: simple pyramid, deeper heads; leaves set arch.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

_norm = dict(type="GN", num_groups=32)
model = dict(
    # To 1024 x 1024 in training and in tests: positions are stretched over the padded image.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(_delete_=True, type="mmquad.LocalVim", drop_path_rate=0.1),
    neck=dict(_delete_=True, type="mmquad.SimpleFeaturePyramid", in_channels=192),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type="Shared4Conv1FCBBoxHead", norm_cfg=_norm),
        mask_head=dict(norm_cfg=_norm),
    ),
)
