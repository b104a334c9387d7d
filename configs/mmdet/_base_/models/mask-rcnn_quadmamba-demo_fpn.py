"""Mask R-CNN narrow enough to train on two CPU cores: small objects, few boxes per image."""

_base_ = "./mask-rcnn_quadmamba_fpn.py"

_norm = dict(type="GN", num_groups=8, requires_grad=True)  # trained from scratch, tiny batches
# A fixed number of samples per bin: counting them per box is slower on a CPU.
_align = dict(sampling_ratio=2)

model = dict(
    backbone=dict(arch=dict(dim=32, depths=(1, 1, 2, 1), ssm_ratio=1.0), drop_path_rate=0.0),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=_norm),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=_align),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64, roi_layer=_align),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_convs=2, norm_cfg=_norm),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=50)),
)
