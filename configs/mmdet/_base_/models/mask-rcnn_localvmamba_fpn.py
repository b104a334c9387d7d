"""mmdet's Mask R-CNN with FPN on a LocalVMamba backbone; leaves set arch.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmquad.LocalVMamba",
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
