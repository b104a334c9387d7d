"""mmpretrain's ImageNet with RandAugment (m9, mstd 0.5, inc 1) and erasing 0.25, as for Swin.

The colour jitter of 0.4 that the paper names takes no effect in its code: timm drops it whenever
RandAugment is on.
"""

_base_ = "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py"

data_hint = "docs/reproduce.md; check the tree: python tools/dataset_tools/check_data.py imagenet"
train_dataloader = dict(
    batch_size=128,
    persistent_workers=False,
    worker_init_fn=dict(type="mmquad.seed_worker"),
)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
