"""Partition maps are written during validation, by the stock runner, and only as many as asked."""

from pathlib import Path

import cv2
import pytest

from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_training, run_training
from mmquad.hooks.partition_visualization import PartitionVisualizationHook

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"


@pytest.mark.slow
def test_maps_of_the_first_images_at_every_second_validation(tmp_path: Path):
    data = generate_shapes_imagenet(tmp_path / "data", 4, 4)
    options = {
        "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0},
        "model.backbone.out_indices": (1,),
        "model.head.in_channels": 16,
        "custom_hooks": [{"type": "mmquad.PartitionVisualizationHook", "images": 3, "interval": 2}],
        "train_cfg.max_epochs": 3,
        "train_cfg.val_interval": 1,
        "train_dataloader.batch_size": 4,
        "val_dataloader.batch_size": 2,
    }
    plan = plan_training(
        str(CONFIG), work_dir=str(tmp_path / "work"), data_root=str(data), cfg_options=options
    )
    run_training(plan)
    pictures = list((tmp_path / "work").rglob("partitions_*.png"))
    steps = len(list((data / "train").rglob("*.JPEG"))) // 4
    expected = {f"partitions_{i}_{epoch * steps}.png" for i in range(3) for epoch in (1, 3)}
    assert {path.name for path in pictures} == expected
    shapes = {cv2.imread(str(path)).shape for path in pictures}
    assert len(shapes) == 1
    height, width, _ = shapes.pop()
    assert height > 400
    assert width == 3 * (200 + 6)  # the image and two blocks


def test_settings_are_checked():
    with pytest.raises(ValueError, match="must be at least 1, got images=0"):
        PartitionVisualizationHook(images=0)
