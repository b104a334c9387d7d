"""A small direction search on generated images of single shapes, on one CPU process.

python tools/train.py configs/mmpretrain/localmamba/localvmamba-search-demo_shapes.py

Then tools/misc/export_directions.py work_dirs/localvmamba-search-demo_shapes \
  configs/mmpretrain/localmamba/localvmamba-demo_shapes.py --out found.py --picture found.png
"""

_base_ = "./localvmamba-demo_shapes.py"

model = dict(
    backbone=dict(
        arch=dict(
            directions=("h h_flip v v_flip w2 w2_flip w7 w7_flip",),
            search=True,
        ),
    ),
)
# A search of minutes has to move its weights faster than one of 100 epochs.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"combine.alpha": dict(decay_mult=1.0, lr_mult=10.0)})
)
custom_hooks = [*_base_.custom_hooks, dict(type="mmquad.DirectionLogHook", interval=20)]
