"""Weights of a trained classifier start a detector and a segmentation model, by one line."""

from pathlib import Path

import pytest
import torch

from mmquad.compat import load_config
from mmquad.datasets import (
    SceneParams,
    generate_shapes_ade,
    generate_shapes_coco,
    generate_shapes_imagenet,
)
from mmquad.engine.launch import plan_training, run_training
from mmquad.errors import SetupError

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSIFIER = CONFIGS / "mmpretrain/quadmamba/quadmamba-demo_shapes.py"
DETECTOR = CONFIGS / "mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes-pretrained.py"
SEGMENTER = CONFIGS / "mmseg/quadmamba/upernet_quadmamba-demo_shapes-pretrained.py"
ONE_EPOCH = {"train_cfg.max_epochs": 1, "default_hooks.checkpoint.interval": 1}
ONE_ITERATION = {"train_cfg.max_iters": 1, "default_hooks.checkpoint.interval": 1}
FULL = SceneParams(side_range=(64, 72), object_sizes=(20.0, 32.0), large_prob=0, empty_prob=0)


def train(config: Path, work_dir: Path, data_root: Path, options: dict) -> dict:
    """Train one step and return the weights it leaves."""
    options = {"train_dataloader.batch_size": 4, **options}
    plan = plan_training(
        str(config), work_dir=str(work_dir), data_root=str(data_root), cfg_options=options
    )
    plan.cfg.val_cfg = plan.cfg.val_dataloader = plan.cfg.val_evaluator = None
    run_training(plan)
    path = Path((work_dir / "last_checkpoint").read_text())
    return torch.load(path, weights_only=False)["state_dict"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data = generate_shapes_imagenet(folder / "data", 4, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        train(CLASSIFIER, folder / "run", data, ONE_EPOCH)
    return folder / "run/epoch_1.pth"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "generate", "length"),
    [
        (DETECTOR, generate_shapes_coco, ONE_EPOCH),
        (SEGMENTER, generate_shapes_ade, ONE_ITERATION),
    ],
    ids=["detection", "segmentation"],
)
def test_training_starts_from_the_classifier(
    config: Path, generate, length: dict, classifier: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    data = generate(tmp_path / "data", 4, 2, scene_params=FULL)
    start = {"model.backbone.init_cfg.checkpoint": str(classifier)}
    # Without a learning rate the weights after a step are those before it.
    still = {"optim_wrapper.optimizer.lr": 0.0}
    after = train(config, tmp_path / "run", data, {**length, **start, **still})

    weights = torch.load(classifier, weights_only=False)["state_dict"]
    shared = {key: value for key, value in weights.items() if key.startswith("backbone.")}
    assert len(shared) > 50
    assert all(torch.equal(after[key], value) for key, value in shared.items())
    # A classifier has no norms of the intermediate stages; everything else comes from it.
    own = {key for key in after if key.startswith("backbone.")} - set(shared)
    assert own == {f"backbone.norm{i}.{name}" for i in range(3) for name in ("weight", "bias")}


def test_demos_share_one_architecture():
    first, *others = (
        load_config(str(path)).model.backbone.arch for path in (CLASSIFIER, DETECTOR, SEGMENTER)
    )
    assert others == [first, first]


def test_weights_of_another_size_are_refused(classifier: Path, tmp_path: Path):
    data = generate_shapes_ade(tmp_path / "data", 4, 2, scene_params=FULL)
    options = {
        "model.backbone.init_cfg.checkpoint": str(classifier),
        "model.backbone.arch.dim": 16,
        "model.decode_head.in_channels": [16, 32, 64, 128],
        "model.auxiliary_head.in_channels": 64,
    }
    with pytest.raises(SetupError, match="wrong shape"):
        train(SEGMENTER, tmp_path / "run", data, {**ONE_ITERATION, **options})
