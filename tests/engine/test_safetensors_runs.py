"""Trainings begin with safetensors files, tests and inferencers take them: here, or on the hub."""

from pathlib import Path

import pytest
import torch
from hub_cache import lay, use_cache

from mmquad.checkpoints.safetensors_files import write_safetensors
from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_test, plan_training, run_test, run_training
from mmquad.errors import SetupError
from mmquad.inference.inferencer import make_inferencer
from mmquad.inference.model_loading import build_model

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"
MODEL = {
    "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)},
    "model.backbone.out_indices": (1,),
    "model.head.in_channels": 16,
    **{f"{split}_dataloader.num_workers": 0 for split in ("train", "val", "test")},
}


def test_begin_test_and_infer(tmp_path: Path, monkeypatch):
    data = str(generate_shapes_imagenet(tmp_path / "data", 4, 4))
    model, cfg = build_model(CONFIG, cfg_options=MODEL)
    weights = {name: torch.rand_like(value) for name, value in model.state_dict().items()}
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, weights, {"settings": model.backbone.settings()})

    lay(tmp_path / "hub", "o/n", "a.safetensors", path.read_bytes())
    use_cache(tmp_path / "hub", monkeypatch)
    address = "hf://o/n/a.safetensors"

    options = {"work_dir": str(tmp_path / "work"), "data_root": data}
    training = {"train_cfg.max_epochs": 1, "optim_wrapper.optimizer.lr": 0.0}
    training |= {"load_from": address, "train_dataloader.batch_size": 2}
    run_training(plan_training(str(CONFIG), cfg_options=MODEL | training, **options))
    written = torch.load(tmp_path / "work/epoch_1.pth", weights_only=False)["state_dict"]
    assert all(torch.equal(written[name], value) for name, value in weights.items())

    plan = plan_test(str(CONFIG), address, cfg_options=MODEL, **options)
    assert "accuracy/top1" in run_test(plan)

    cfg.dump(tmp_path / "config.py")
    inferencer = make_inferencer(tmp_path / "config.py", path, device="cpu")
    assert torch.equal(inferencer.model.head.fc.weight, weights["head.fc.weight"])
    read, _ = build_model(CONFIG, address, cfg_options=MODEL)
    assert torch.equal(read.head.fc.weight, weights["head.fc.weight"])

    with pytest.raises(SetupError, match="without the state of a training"):
        plan_training(str(CONFIG), resume=str(path), cfg_options=MODEL, **options)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SetupError, match=r"to test cannot be used.*cut off"):
        plan_test(str(CONFIG), str(path), cfg_options=MODEL, **options)
