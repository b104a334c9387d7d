"""Every shipped mmseg config loads, builds, trains a step, predicts, and follows its recipe."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmquad.checks.data_paths import set_data_root
from mmquad.compat import load_config
from mmquad.datasets import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE, generate_shapes_ade
from mmquad.engine.cpu import replace_sync_bn
from mmquad.engine.launch import plan_training

CONFIGS = Path(__file__).parents[2] / "configs" / "mmseg"
LEAVES = sorted((CONFIGS / "quadmamba").glob("*.py"))
DEMO = "upernet_quadmamba-demo_shapes"
VARIANTS = ("tiny", "small", "base")

each_leaf = pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def load(name: str) -> Config:
    return load_config(str(CONFIGS / "quadmamba" / f"{name}.py"))


def recipe(variant: str, schedule: str = "160k", side: int = 512) -> Config:
    return load(f"upernet_quadmamba-{variant}_8xb2-{schedule}_ade20k-{side}x{side}")


def build(cfg: Config) -> nn.Module:
    init_default_scope("mmseg")
    cfg = copy.deepcopy(cfg)
    replace_sync_bn(cfg.model)
    return MMSEG_MODELS.build(cfg.model)


def sample(height: int, width: int, num_classes: int, count: int = 1) -> dict:
    shape = (height, width)
    samples = []
    for _ in range(count):
        labels = torch.randint(0, num_classes, (1, height, width))
        labels[:, :2] = 255
        meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape}
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(count)]
    return {"inputs": images, "data_samples": samples}


@each_leaf
def test_leaf_documents_itself_and_adds_up(path: Path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith(('"""', 'r"""'))
    cfg = load(path.stem)
    assert cfg.default_scope == "mmseg"
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks == ["mmquad.EpochSeedHook", "mmquad.ClassCheckHook", "mmquad.FiniteGuardHook"]
    assert cfg.train_dataloader.persistent_workers is False
    size = cfg.model.data_preprocessor.size
    crops = [
        step.crop_size for step in cfg.train_dataloader.dataset.pipeline if "crop_size" in step
    ]
    assert crops == [size]
    if "-demo_" not in path.stem:
        assert len(lines) <= 25
        assert f"configs/mmseg/quadmamba/{path.name} 8" in path.read_text()
        assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in LEAVES])
def test_one_training_step_and_one_prediction(name: str):
    torch.manual_seed(0)
    cfg = copy.deepcopy(load(name))
    cfg.model.data_preprocessor.size = (64, 64)
    model = build(cfg)
    num_classes = cfg.model.decode_head.num_classes
    before = copy.deepcopy(model.backbone.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    model.train()
    losses = model.train_step(sample(64, 64, num_classes, count=2), wrapper)
    assert {"decode.loss_ce", "aux.loss_ce"} <= set(losses)
    assert all(torch.isfinite(loss).all() for loss in losses.values())
    after = model.backbone.state_dict()
    moved = {key.rpartition(".")[0] for key, old in before.items() if not old.equal(after[key])}
    assert {"stem.conv1", *(f"stages.{i}.0.mlp.fc1" for i in range(4))} <= moved

    model.eval()
    (prediction,) = model.test_step(sample(45, 64, num_classes))
    assert prediction.pred_sem_seg.data.shape == (1, 45, 64)
    assert prediction.seg_logits.data.shape == (num_classes, 45, 64)


@pytest.mark.slow
def test_whole_images_of_any_size():
    """No multiple of 32 is needed; 512 x 683 is a common size of ADE20K's validation images."""
    torch.manual_seed(0)
    cfg = copy.deepcopy(recipe("tiny"))
    cfg.model.decode_head.channels = 16  # mmseg's head, narrowed for speed
    assert cfg.model.test_cfg.mode == "whole"
    model = build(cfg).eval()
    for height, width in ((512, 683), (333, 500), (97, 131)):
        (prediction,) = model.test_step(sample(height, width, 150))
        assert prediction.pred_sem_seg.data.shape == (1, height, width)
        assert prediction.seg_logits.data.isfinite().all()


@each_variant
def test_heads_and_stochastic_depth_fit_the_variant(variant: str):
    model = recipe(variant).model
    backbone = build(recipe(variant)).backbone
    assert model.decode_head.in_channels == list(backbone.out_channels)
    assert model.auxiliary_head.in_channels == backbone.out_channels[model.auxiliary_head.in_index]
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert model.backbone.drop_path_rate == {"tiny": 0.1, "small": 0.2, "base": 0.3}[variant]


@pytest.mark.parametrize(("variant", "millions"), [("tiny", 40), ("small", 62), ("base", 82)])
def test_parameters_are_those_of_the_paper(variant: str, millions: int):
    """The paper counts the auxiliary head, as VMamba's tools do."""
    model = build(recipe(variant))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1.0)


@each_variant
def test_schedules_and_sizes_train_the_same_model(variant: str):
    plain = recipe(variant)
    amp = copy.deepcopy(recipe(variant, "amp-160k"))
    assert amp.optim_wrapper.type == "AmpOptimWrapper"
    amp.optim_wrapper.pop("loss_scale")
    amp.optim_wrapper.type = "OptimWrapper"
    assert amp.to_dict() == plain.to_dict()
    large = copy.deepcopy(recipe(variant, side=640))
    assert large.model.data_preprocessor.size == (640, 640)
    large.model.data_preprocessor.size = (512, 512)
    assert large.model == plain.model
    assert large.optim_wrapper == plain.optim_wrapper


def test_published_recipe():
    cfg = recipe("tiny")
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.end) == ("LinearLR", 1e-6, 1500)
    assert (decay.type, decay.power, decay.begin, decay.end) == ("PolyLR", 1.0, 1500, 160000)
    assert cfg.train_cfg.max_iters == 160000
    optimizer = {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01}
    assert cfg.optim_wrapper.optimizer == optimizer
    times = cfg.tta_pipeline[1].transforms
    assert [step.scale_factor for step in times[0]] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert [step.prob for step in times[1]] == [0.0, 1.0]


def test_weight_decay_spares_norms_and_state_space_parameters():
    cfg = recipe("tiny")
    model = build(cfg)
    names = {parameter: name for name, parameter in model.named_parameters()}
    norms = (nn.LayerNorm, nn.BatchNorm2d)
    in_norm = {p for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    seen = set()
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.add(name)
            spared = parameter in in_norm or name.endswith(("A_log", "D_skip", "dt_bias"))
            assert group["weight_decay"] == (0.0 if spared else 0.01), name
    assert seen == set(names.values())


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> str:
    return str(generate_shapes_ade(tmp_path_factory.mktemp("data") / "shapes", 6, 2))


@pytest.mark.parametrize("name", ["upernet_quadmamba-tiny_8xb2-160k_ade20k-640x640", DEMO])
def test_pipelines_give_images_and_labels(name: str, shapes: str):
    cfg = copy.deepcopy(load(name))
    set_data_root(cfg, shapes)
    init_default_scope("mmseg")
    np.random.seed(0)
    side, largest = (96, 4) if name == DEMO else (640, 149)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        values = set()
        for index in range(len(dataset)):
            item = dataset[index]
            labels = item["data_samples"].gt_sem_seg.data
            found = set(labels.unique().tolist())
            values |= found
            assert found - {255} <= set(range(largest + 1))
            if loader is cfg.train_dataloader:
                assert labels.shape[1:] == item["inputs"].shape[1:]
                assert max(labels.shape) <= side
        assert 255 in values


def test_demo_classes_are_those_of_the_generated_data():
    cfg = load(DEMO)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.classes == SEGMENTATION_CLASSES
        assert [tuple(c) for c in loader.dataset.metainfo.palette] == list(SEGMENTATION_PALETTE)
    assert cfg.model.decode_head.num_classes == len(SEGMENTATION_CLASSES)
    assert cfg.model.auxiliary_head.num_classes == len(SEGMENTATION_CLASSES)


def test_sync_bn_becomes_bn_where_there_is_no_gpu(shapes: str, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name = str(CONFIGS / "quadmamba" / "upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py")
    plan = plan_training(name, data_root=shapes)
    assert plan.cfg.model.decode_head.norm_cfg.type == "BN"
    assert plan.cfg.model.auxiliary_head.norm_cfg.type == "BN"
