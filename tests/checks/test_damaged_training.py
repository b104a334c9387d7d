"""A training that meets damaged images ends with their names."""

from pathlib import Path

import pytest

from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_training, run_training
from mmquad.errors import OneProcessError

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"
OPTIONS = {
    "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)},
    "model.backbone.out_indices": (1,),
    "model.head.in_channels": 16,
    "train_cfg.max_epochs": 1,
    "train_dataloader.batch_size": 2,
}


def test_training_on_damaged_images_names_all_of_them(tmp_path: Path):
    data = generate_shapes_imagenet(tmp_path / "data", 4, 4)
    images = sorted((data / "train").rglob("*.JPEG"))
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:200])
    plan = plan_training(
        str(CONFIG), work_dir=str(tmp_path / "work"), data_root=str(data), cfg_options=OPTIONS
    )
    with pytest.raises(OneProcessError) as raised:
        run_training(plan)
    message = str(raised.value)
    assert message.startswith("2 images cannot be read:")
    assert f"{images[0]}: empty (0 bytes)" in message
    assert f"{images[1]}: cut off after 200 bytes" in message
