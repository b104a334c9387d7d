"""mmseg's ADE20K in crops of 640 x 640, two images per process."""

_base_ = "mmseg::_base_/datasets/ade20k_640x640.py"

data_hint = "docs/reproduce.md; check the tree: python tools/dataset_tools/check_data.py ade20k"
train_dataloader = dict(
    batch_size=2,
    persistent_workers=False,
    worker_init_fn=dict(type="mmquad.seed_worker"),
)
