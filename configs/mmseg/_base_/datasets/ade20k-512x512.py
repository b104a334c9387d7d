"""mmseg's ADE20K in crops of 512 x 512, two images per process."""

_base_ = "mmseg::_base_/datasets/ade20k.py"

data_hint = "docs/reproduce.md; check the tree: python tools/dataset_tools/check_data.py ade20k"
train_dataloader = dict(
    batch_size=2,
    persistent_workers=False,
    worker_init_fn=dict(type="mmquad.seed_worker"),
)
