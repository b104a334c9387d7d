"""UperNet, a small QuadMamba, generated shapes: from scratch on two CPU processes.

tools/demo/demo.sh segmentation    (or tools/dist_train.sh configs/mmseg/quadmamba/<this file> 2)
"""

_base_ = [
    "../_base_/models/upernet_quadmamba-demo.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    # A last row or column that covers half a stride, of images of any size, is nothing that crops
    # of 96 train for.
    data_preprocessor=dict(size=(96, 96), test_cfg=dict(size_divisor=32)),
    decode_head=dict(num_classes=5),
    auxiliary_head=dict(num_classes=5),
)
max_iters = 3200
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(_delete_=True, max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="PolyLR", power=1.0, by_epoch=False, begin=100, end=max_iters),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=400))
randomness = dict(seed=0)
