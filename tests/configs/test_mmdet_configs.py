"""Every shipped mmdet config loads, builds, trains a step, predicts, and follows its recipe."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmquad.checks.data_paths import set_data_root
from mmquad.datasets import SHAPE_CLASSES, generate_shapes_coco
from mmquad.engine.launch import plan_training
from mmquad.errors import SetupError

CONFIGS = Path(__file__).parents[2] / "configs" / "mmdet"
LEAVES = sorted((CONFIGS / "quadmamba").glob("*.py"))
DEMO = "mask-rcnn_quadmamba-demo_fpn_shapes"
VARIANTS = ("lite", "tiny", "small", "base")

each_leaf = pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / "quadmamba" / f"{name}.py")


def recipe(variant: str, schedule: str) -> Config:
    return load(f"mask-rcnn_quadmamba-{variant}_fpn_{schedule}_coco")


def sample(height: int, width: int, num_classes: int) -> dict:
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 44.0]])
    masks = np.zeros((2, height, width), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    truth = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([0, num_classes - 1]),
        masks=BitmapMasks(masks, height, width),
    )
    shape = (height, width)
    meta = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0), "img_id": 0}
    data_sample = DetDataSample(metainfo=meta, gt_instances=truth)
    data_sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [data_sample]}


def build(cfg: Config) -> nn.Module:
    init_default_scope("mmdet")
    return MMDET_MODELS.build(copy.deepcopy(cfg.model))


@each_leaf
def test_leaf_documents_itself_and_adds_up(path: Path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    cfg = Config.fromfile(path)
    assert cfg.default_scope == "mmdet"
    base = cfg.auto_scale_lr.base_batch_size
    assert base == (4 if "-demo_" in path.stem else 16)
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.train_dataloader.worker_init_fn.type == "mmquad.seed_worker"
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks == ["mmquad.EpochSeedHook", "mmquad.ClassCheckHook", "mmquad.FiniteGuardHook"]
    if "-demo_" not in path.stem:
        assert len(lines) <= 25
        assert f"configs/mmdet/quadmamba/{path.name} 8" in path.read_text()


@pytest.mark.parametrize("name", [path.stem for path in LEAVES])
def test_one_training_step_and_one_prediction(name: str):
    torch.manual_seed(0)
    cfg = copy.deepcopy(load(name))
    # Few boxes, for speed: the heads are mmdet's.
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    cfg.model.train_cfg.rcnn.sampler.num = 16
    cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=10)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    model = build(cfg)
    before = copy.deepcopy(model.backbone.state_dict())
    num_classes = cfg.model.roi_head.bbox_head.num_classes
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))

    model.train()
    losses = model.train_step(sample(72, 64, num_classes), wrapper)
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"} <= set(losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    after = model.backbone.state_dict()
    moved = {key.rpartition(".")[0] for key, old in before.items() if not old.equal(after[key])}
    assert {"stem.conv1", *(f"stages.{i}.0.mlp.fc1" for i in range(4))} <= moved

    model.eval()
    (prediction,) = model.test_step(sample(72, 64, num_classes))
    found = prediction.pred_instances
    assert len(found) == 3
    assert found.masks.shape == (3, 72, 64)


@each_variant
@pytest.mark.parametrize("schedule", ["amp-1x", "ms-3x"])
def test_schedules_train_the_same_model(variant: str, schedule: str):
    assert recipe(variant, schedule).model == recipe(variant, "1x").model


@each_variant
def test_neck_and_stochastic_depth_fit_the_variant(variant: str):
    cfg = recipe(variant, "1x")
    model = build(cfg)
    assert cfg.model.neck.in_channels == list(model.backbone.out_channels)
    rates = {"lite": 0.0, "tiny": 0.1, "small": 0.2, "base": 0.3}
    assert cfg.model.backbone.drop_path_rate == rates[variant]


@pytest.mark.parametrize(
    ("schedule", "epochs", "steps"), [("1x", 12, [8, 11]), ("ms-3x", 36, [27, 33])]
)
def test_published_recipe(schedule: str, epochs: int, steps: list[int]):
    cfg = recipe("tiny", schedule)
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.end) == ("LinearLR", 0.001, 1000)
    assert (decay.milestones, decay.gamma, decay.end) == (steps, 0.1, epochs)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == {
        "type": "AdamW",
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "weight_decay": 0.05,
    }


@each_variant
def test_mixed_precision_variant_changes_nothing_else(variant: str):
    plain, amp = recipe(variant, "1x"), copy.deepcopy(recipe(variant, "amp-1x"))
    assert amp.optim_wrapper.type == "AmpOptimWrapper"
    amp.optim_wrapper.pop("loss_scale")
    amp.optim_wrapper.type = "OptimWrapper"
    assert amp.to_dict() == plain.to_dict()


def test_weight_decay_spares_norms_and_state_space_parameters():
    cfg = recipe("lite", "1x")
    model = build(cfg)
    names = {parameter: name for name, parameter in model.named_parameters()}
    in_norm = {
        parameter
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters()
    }
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    seen = set()
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.add(name)
            spared = parameter in in_norm or name.endswith(("A_log", "D_skip", "dt_bias"))
            assert group["weight_decay"] == (0.0 if spared else 0.05), name
    assert seen == set(names.values())
    for ending in ("A_log", "D_skip", "dt_bias", "norm1.weight"):
        assert any(name.endswith(ending) for name in seen), ending


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> str:
    return str(generate_shapes_coco(tmp_path_factory.mktemp("data") / "shapes", 4, 1))


@pytest.mark.parametrize(
    "name",
    ["mask-rcnn_quadmamba-tiny_fpn_1x_coco", "mask-rcnn_quadmamba-tiny_fpn_ms-3x_coco", DEMO],
)
def test_training_pipeline_gives_images_and_truth(name: str, shapes: str):
    cfg = copy.deepcopy(load(name))
    set_data_root(cfg, shapes)
    cfg.train_dataloader.dataset.metainfo = {"classes": SHAPE_CLASSES}
    init_default_scope("mmdet")
    np.random.seed(0)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sides = set()
    for index in range(len(dataset)):
        item = dataset[index]
        truth = item["data_samples"].gt_instances
        assert len(truth.masks) == len(truth.bboxes) > 0
        sides.add(min(item["inputs"].shape[1:]))
    if name == DEMO:
        assert max(sides) <= 160
    elif "ms-3x" in name:
        assert len(sides) > 1
    else:
        assert sides == {800}


def test_demo_classes_are_those_of_the_generated_data():
    cfg = load(DEMO)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.classes == SHAPE_CLASSES
    heads = cfg.model.roi_head
    assert heads.bbox_head.num_classes == heads.mask_head.num_classes == len(SHAPE_CLASSES)


def test_documented_option_for_imagenet_weights_is_understood(tmp_path: Path):
    """The three options of the base's docstring make one init_cfg, which is then checked."""
    prefix = "model.backbone.init_cfg"
    options = {
        f"{prefix}.type": "Pretrained",
        f"{prefix}.prefix": "backbone.",
        f"{prefix}.checkpoint": str(tmp_path / "weights.pth"),
    }
    base = CONFIGS / "_base_" / "models" / "mask-rcnn_quadmamba_fpn.py"
    assert all(f"{key}=" in base.read_text() for key in options)
    with pytest.raises(SetupError, match=rf"config key {prefix}\.checkpoint.*weights\.pth"):
        plan_training(str(LEAVES[0]), cfg_options=options)
