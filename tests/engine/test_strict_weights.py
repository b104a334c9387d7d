"""A test with weights that do not fit entirely is refused; mmengine alone would only log."""

import copy
from pathlib import Path

import pytest
import torch

from mmquad.compat import load_config
from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.errors import SetupError
from mmquad.engine.launch import plan_test, run_test

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"
ARCH = {"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1.0}


@pytest.fixture(scope="module")
def weights() -> dict:
    from mmpretrain.registry import MODELS

    model = copy.deepcopy(load_config(str(CONFIG)).model)
    model.backbone.arch, model.head.in_channels = ARCH, 64
    model._scope_ = "mmpretrain"
    return MODELS.build(model).state_dict()


def evaluate(weights: dict, tmp_path: Path, tta: bool = False, **content) -> dict:
    checkpoint = tmp_path / "weights.pth"
    torch.save({"state_dict": weights, **content}, checkpoint)
    data = generate_shapes_imagenet(tmp_path / "data", 4, 4)
    options = {"model.backbone.arch": ARCH, "model.head.in_channels": 64}
    plan = plan_test(
        str(CONFIG),
        str(checkpoint),
        data_root=str(data),
        work_dir=str(tmp_path / "work"),
        cfg_options=options,
        tta=tta,
    )
    return run_test(plan)


@pytest.mark.parametrize("tta", [False, True])
def test_weights_that_fit(weights: dict, tmp_path: Path, tta: bool):
    assert 0 <= evaluate(weights, tmp_path, tta)["accuracy/top1"] <= 100


@pytest.mark.parametrize("tta", [False, True])
def test_missing_and_misshapen_weights(weights: dict, tmp_path: Path, tta: bool):
    wrong = dict(weights)
    wrong["extra"] = wrong.pop("head.fc.bias")
    wrong["head.fc.weight"] = torch.zeros(7, 64)
    with pytest.raises(SetupError) as raised:
        evaluate(wrong, tmp_path, tta)
    assert "weights.pth does not fit ImageClassifier" in str(raised.value)
    for part in ("head.fc.bias", "extra", "head.fc.weight: model (4, 64), checkpoint (7, 64)"):
        assert part in str(raised.value)


def test_settings_of_a_converted_file(weights: dict, tmp_path: Path):
    with pytest.raises(SetupError, match="quadtree='released' there, 'paper' in this model"):
        evaluate(weights, tmp_path, meta={"settings": {"quadtree": "released"}})
