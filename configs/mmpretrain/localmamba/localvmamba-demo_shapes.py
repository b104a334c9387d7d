"""A small LocalVMamba, generated images of single shapes: from scratch on a CPU.

python tools/train.py configs/mmpretrain/localmamba/localvmamba-demo_shapes.py
"""

_base_ = "../quadmamba/quadmamba-demo_shapes.py"

model = dict(
    backbone=dict(
        type="mmquad.LocalVMamba",
        arch=dict(_delete_=True, dim=32, depths=(1, 1, 2, 1), d_state=4),
    ),
)
train_cfg = dict(max_epochs=10, val_interval=2)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(weight_decay=0.04))
default_hooks = dict(checkpoint=dict(interval=1))
