"""mmseg's ADE20K in crops of 640 x 640, two images per process."""

_base_ = "mmseg::_base_/datasets/ade20k_640x640.py"

data_hint = "see docs/reproduce.md, and check the tree: python tools/check_data.py ade20k"
train_dataloader = dict(
    batch_size=2,
    persistent_workers=False,
    worker_init_fn=dict(type="mmquad.seed_worker"),
)
