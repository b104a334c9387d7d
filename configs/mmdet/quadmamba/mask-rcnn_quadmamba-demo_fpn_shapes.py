"""Mask R-CNN, FPN, a small QuadMamba, generated shapes: from scratch on two CPU processes.

tools/demo/demo.sh    (or tools/dist_train.sh configs/mmdet/quadmamba/<this file> 2)
"""

_base_ = [
    "../_base_/models/mask-rcnn_quadmamba-demo_fpn.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=4), mask_head=dict(num_classes=4)))

train_cfg = dict(max_epochs=24, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best=None))
randomness = dict(seed=0)
