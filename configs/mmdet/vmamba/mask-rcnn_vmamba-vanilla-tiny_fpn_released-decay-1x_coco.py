r"""Mask R-CNN, VMamba Vanilla-T as the 1x config, with the weight decay of the release.

tools/dist_train.sh \
  configs/mmdet/vmamba/mask-rcnn_vmamba-vanilla-tiny_fpn_released-decay-1x_coco.py 8

Published: box AP 46.5, mask AP 42.1 (VMamba, arXiv 2401.10166; ImageNet weights).
"""

_base_ = [
    "../_base_/models/mask-rcnn_vmamba_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x_released-decay.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="vanilla-tiny", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
