r"""Cascade Mask R-CNN, FPN, MambaVision-T, COCO, 3x (36 epochs), multi-scale, 8 GPUs x 2 images.

tools/dist_train.sh \
    configs/mmdet/mambavision/cascade-mask-rcnn_mambavision-tiny_fpn_amp-ms-3x_coco.py 8

Published: box AP 51.1, mask AP 44.3 (MambaVision, CVPR 2025, arXiv 2407.08083; ImageNet weights).
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_mambavision_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
)
