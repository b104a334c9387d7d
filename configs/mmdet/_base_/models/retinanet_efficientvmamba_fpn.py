"""mmdet's RetinaNet with FPN on an EfficientVMamba backbone; leaves set arch and neck.in_channels.

From random weights unless you give ImageNet ones:
--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=/path/to/weights.pth
"""

_base_ = "mmdet::_base_/models/retinanet_r50_fpn.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmquad.EfficientVMamba",
        drop_path_rate=0.2,
        out_indices=(1, 2, 3),  # the first map would have a norm that nobody reads
    ),
    neck=dict(start_level=0),
)
