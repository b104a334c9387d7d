"""mmdet's Mask R-CNN with FPN on a QuadMamba backbone; leaves set arch and neck.in_channels."""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

# ImageNet weights, once you have them: --cfg-options
#   model.backbone.init_cfg="dict(type='Pretrained', checkpoint='weights.pth', prefix='backbone.')"
model = dict(
    backbone=dict(
        _delete_=True,
        type="mmquad.QuadMamba",
        out_indices=(0, 1, 2, 3),
        init_cfg=None,
    ),
)
