"""Every shipped mmpretrain config loads, builds, trains a step, predicts, keeps its recipe."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmquad.checks.data_paths import set_data_root
from mmquad.compat import load_config
from mmquad.datasets import CLASSIFICATION_CLASSES, SHAPE_CLASSES, generate_shapes_imagenet

CONFIGS = Path(__file__).parents[2] / "configs" / "mmpretrain"
LEAVES = sorted((CONFIGS / "quadmamba").glob("*.py"))
DEMO = "quadmamba-demo_shapes"
VARIANTS = ("lite", "tiny", "small", "base")

each_leaf = pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)


@cache
def load(name: str) -> Config:
    return load_config(str(CONFIGS / "quadmamba" / f"{name}.py"))


def recipe(variant: str) -> Config:
    return load(f"quadmamba-{variant}_8xb128_in1k")


def build(cfg: Config) -> nn.Module:
    init_default_scope("mmpretrain")
    model = copy.deepcopy(cfg.model)
    # mmpretrain's runner passes the preprocessor of the config to the model
    model.data_preprocessor = {"type": "ClsDataPreprocessor", **cfg.data_preprocessor}
    if model.get("train_cfg"):
        model.data_preprocessor["batch_augments"] = dict(model.train_cfg)
    return MMPRETRAIN_MODELS.build(model)


def batch(side: int, num_classes: int, count: int = 2) -> dict:
    samples = [DataSample().set_gt_label(i % num_classes) for i in range(count)]
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return {"inputs": images, "data_samples": samples}


@each_leaf
def test_leaf_documents_itself_and_adds_up(path: Path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    cfg = load(path.stem)
    assert cfg.default_scope == "mmpretrain"
    assert cfg.train_dataloader.persistent_workers is False
    if path.stem != DEMO:
        assert len(lines) <= 25
        assert f"configs/mmpretrain/quadmamba/{path.name} 8" in path.read_text()
        assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024


@pytest.mark.slow
@each_leaf
def test_one_training_step_and_one_prediction(path: Path):
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = load(path.stem)
    model = build(cfg)
    model.init_weights()
    num_classes = cfg.model.head.num_classes
    before = copy.deepcopy(model.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-2))
    model.train()
    (loss,) = model.train_step(batch(48, num_classes), wrapper).values()
    assert loss.isfinite()
    # An untrained classifier knows nothing: the loss is about that of even probabilities. (The
    # demo's larger initial weights give two images an opinion.)
    assert float(loss) == pytest.approx(np.log(num_classes), rel=0.25 if path.stem == DEMO else 0.1)
    moved = {key for key, old in before.items() if not old.equal(model.state_dict()[key])}
    assert {"head.fc.weight", "backbone.stem.conv1.weight", "backbone.norm3.weight"} <= moved

    model.eval()
    predictions = model.test_step(batch(41, num_classes))
    assert [p.pred_score.shape for p in predictions] == [(num_classes,)] * 2


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("lite", 5_470_200), ("tiny", 10_322_648), ("small", 31_252_176), ("base", 50_694_096)],
)
def test_parameters_are_those_of_the_release(variant: str, parameters: int):
    model = build(recipe(variant))
    assert sum(p.numel() for p in model.parameters()) == parameters
    rates = {"lite": 0.0, "tiny": 0.1, "small": 0.2, "base": 0.3}
    assert recipe(variant).model.backbone.drop_path_rate == rates[variant]


def test_published_recipe():
    cfg = recipe("tiny")
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.by_epoch) == ("LinearLR", 20, True)
    assert (decay.type, decay.begin, decay.eta_min) == ("CosineAnnealingLR", 20, 1e-5)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.clip_grad == {"max_norm": 5.0}
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 0.05)
    assert {"type": "EMAHook", "momentum": 1e-4, "priority": "ABOVE_NORMAL"} in cfg.custom_hooks
    augments = [(a.type, a.alpha) for a in cfg.model.train_cfg.augments]
    assert augments == [("Mixup", 0.8), ("CutMix", 1.0)]
    assert cfg.model.head.loss.label_smooth_val == 0.1
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    rand = steps["RandAugment"]
    assert (rand.magnitude_level, rand.magnitude_std, rand.policies) == (9, 0.5, "timm_increasing")
    assert steps["RandomErasing"].erase_prob == 0.25
    assert steps["RandomResizedCrop"].scale == 224


def test_weight_decay_spares_norms_biases_and_state_space_parameters():
    cfg = recipe("lite")
    model = build(cfg)
    names = {parameter: name for name, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    seen = set()
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.add(name)
            spared = parameter.ndim == 1 or name.endswith(("A_log", "D_skip", "dt_bias"))
            assert group["weight_decay"] == (0.0 if spared else 0.05), name
    assert seen == set(names.values())


@pytest.mark.parametrize("name", ["quadmamba-tiny_8xb128_in1k", DEMO])
def test_pipelines_give_images_and_labels(name: str, tmp_path: Path):
    cfg = copy.deepcopy(load(name))
    set_data_root(cfg, str(generate_shapes_imagenet(tmp_path / "shapes", 8, 4)))
    init_default_scope("mmpretrain")
    np.random.seed(0)
    side = 64 if name == DEMO else 224
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = {"classes": CLASSIFICATION_CLASSES}
        dataset = DATASETS.build(loader.dataset)
        labels = []
        for index in range(len(dataset)):
            item = dataset[index]
            assert item["inputs"].shape == (3, side, side)
            labels.append(int(item["data_samples"].gt_label))
        assert sorted(set(labels)) == [0, 1, 2, 3]


def test_demo_classes_are_those_of_the_generated_data():
    cfg = load(DEMO)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.classes == CLASSIFICATION_CLASSES
    assert set(CLASSIFICATION_CLASSES) == set(SHAPE_CLASSES)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == len(SHAPE_CLASSES)
