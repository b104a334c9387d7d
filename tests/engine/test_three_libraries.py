"""The same launcher trains and tests models of mmdet's sister libraries on tiny generated data."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmquad.engine.launch import plan_test, plan_training, run_test, run_training

RUNTIME = """
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
custom_hooks = [dict(type='mmquad.EpochSeedHook')]
"""

PRETRAIN = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2),
    backbone=dict(type='mmquad.QuadMamba', arch=dict(dim=8, depths=(1, 1), ssm_ratio=1),
                  out_indices=(1,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16, topk=(1,)))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_prefix='images', pipeline=pipeline))
val_dataloader = test_dataloader = train_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
"""

SEGMENT = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32), pad_val=0, seg_pad_val=255),
    backbone=dict(type='mmquad.QuadMamba', arch=dict(dim=8, depths=(1, 1), ssm_ratio=1),
                  out_indices=(0, 1)),
    decode_head=dict(
        type='FCNHead', in_channels=16, channels=8, in_index=1, num_convs=1, num_classes=2,
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='BaseSegDataset', data_root='images', img_suffix='.png',
                 seg_map_suffix='.png', metainfo=dict(classes=('a', 'b')),
                 data_prefix=dict(img_path='a', seg_map_path='b'), pipeline=pipeline))
val_dataloader = dict(train_dataloader, batch_size=1)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch) -> None:
    """Four 32 x 32 images in each of two folders; those of ``b`` are label maps of ``a``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    draw = np.random.default_rng(0)
    for folder, shape, high in (("a", (32, 32, 3), 256), ("b", (32, 32), 2)):
        Path("images", folder).mkdir(parents=True)
        for index in range(4):
            image = draw.integers(0, high, shape, dtype=np.uint8)
            cv2.imwrite(f"images/{folder}/{index}.png", image)


@pytest.mark.slow
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("library", "config", "metric"),
    [("mmpretrain", PRETRAIN, "accuracy/top1"), ("mmseg", SEGMENT, "mIoU")],
)
def test_train_and_test(library: str, config: str, metric: str):
    name = f"{library}_config.py"
    Path(name).write_text(config + RUNTIME)
    plan = plan_training(name)
    assert any("SyncBN" in note for note in plan.notes) == (library == "mmseg")
    run_training(plan)
    checkpoint = f"work_dirs/{library}_config/epoch_1.pth"
    metrics = run_test(plan_test(name, checkpoint, out="results.pkl", work_dir="tested"))
    assert 0 <= metrics[metric] <= 100
    assert Path("results.pkl").stat().st_size > 0
