r"""Cascade Mask R-CNN, FPN, MambaVision-B, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmdet/mambavision/cascade-mask-rcnn_mambavision-base_fpn_amp-ms-3x_coco.py 8

Published: box AP 52.8, mask AP 45.7 (MambaVision, CVPR 2025, arXiv 2407.08083; ImageNet weights).
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_mambavision_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(lr=2e-4),
)
