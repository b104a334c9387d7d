"""LocalMamba's configs: each documents itself; one per family trains a step; recipes hold."""

import copy
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from test_mmdet_configs import sample as detection_batch
from test_mmpretrain_configs import batch as classification_batch
from test_mmseg_configs import sample as segmentation_batch
from torch import nn

from mmquad.checks.data_paths import set_data_root
from mmquad.compat import load_config
from mmquad.datasets import SHAPE_CLASSES, generate_shapes_coco
from mmquad.engine.cpu import replace_sync_bn

CONFIGS = Path(__file__).parents[2] / "configs"
LEAVES = sorted(CONFIGS.glob("*/localmamba/*.py"))
NAMES = [path.stem for path in LEAVES]
DEMOS = [name for name in NAMES if "-demo_" in name]
DIRECTIONS = ("h v_flip w2 w7_flip",)


@cache
def load(name: str) -> Config:
    (path,) = CONFIGS.glob(f"*/localmamba/{name}.py")
    return load_config(str(path))


def build(cfg: Config) -> nn.Module:
    """The model, on a CPU."""
    init_default_scope(cfg.default_scope)
    model = copy.deepcopy(cfg.model)
    replace_sync_bn(model)
    if cfg.default_scope == "mmpretrain":
        # as mmpretrain's runner does
        model.data_preprocessor = {"type": "ClsDataPreprocessor", **cfg.data_preprocessor}
    return import_module(f"{cfg.default_scope}.registry").MODELS.build(model)


def build_without_values(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(load(name))


def test_all_variants_are_there() -> None:
    assert len(NAMES) == 12 + 5 + 4
    assert len(DEMOS) == 2


@pytest.mark.parametrize("path", LEAVES, ids=NAMES)
def test_leaf_documents_itself(path: Path) -> None:
    text = path.read_text()
    assert re.match('r?"""', text)
    cfg = load(path.stem)
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.train_dataloader.worker_init_fn.type == "mmquad.seed_worker"
    assert {"type": "mmquad.EpochSeedHook"} in cfg.custom_hooks
    if path.stem not in DEMOS:
        assert len(text.splitlines()) <= 25
        assert f"{path.relative_to(CONFIGS.parent)} 8" in text
        assert "Published: " in text
        images = 1024 if cfg.default_scope == "mmpretrain" else 16
        assert cfg.train_dataloader.batch_size * 8 == images == cfg.auto_scale_lr.base_batch_size


def shallow(cfg: Config) -> Config:
    """One layer per stage, and few boxes."""
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    if backbone.type == "mmquad.LocalVMamba" and backbone.arch == "tiny":
        backbone.arch = {"dim": 96, "depths": (1, 1, 1, 1), "directions": DIRECTIONS}
    if backbone.type == "mmquad.LocalVim" and backbone.arch == "tiny":
        backbone.arch = {"dim": 192, "depth": 4, "directions": DIRECTIONS}
        if "out_indices" in backbone:
            backbone.out_indices = (0, 1, 2, 3)
    if cfg.default_scope == "mmseg":
        cfg.model.data_preprocessor.size = (64, 96)
        backbone.drop_path_rate = 0.0  # of two samples a branch may drop both
    if "roi_head" in cfg.model:
        cfg.model.data_preprocessor.pad_size_divisor = 32
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        cfg.model.train_cfg.rcnn.sampler.num = 16
    return cfg


def train_step(model: nn.Module, data: dict) -> tuple[dict, set[str]]:
    """Losses, and names of the parameters that moved."""
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # no gradient is then next to nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = copy.deepcopy(dict(model.named_parameters()))
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0))
    losses = model.train().train_step(data, wrapper)
    assert all(value.isfinite().all() for value in losses.values())
    moved = {n for n, p in model.named_parameters() if not p.equal(before[n])}
    return losses, moved


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["mask-rcnn_localvmamba-tiny_fpn_1x_coco", "mask-rcnn_localvim-tiny_simple-fpn_lsj-25e_coco"],
)
def test_detectors_train(name: str) -> None:
    torch.manual_seed(0)
    losses, moved = train_step(build(shallow(load(name))), detection_batch(64, 96, 80))
    assert {"loss_rpn_cls", "loss_cls", "loss_bbox", "loss_mask"} <= set(losses)
    assert "backbone.stem.conv.weight" in moved
    assert any(n.endswith("combine.expand.weight") for n in moved)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["localvmamba-tiny_8xb128_in1k", "localvim-tiny-middle-cls_8xb128_in1k", *DEMOS]
)
def test_classifiers_train(name: str) -> None:
    torch.manual_seed(0)
    cfg = shallow(load(name))
    _, moved = train_step(build(cfg), classification_batch(48, cfg.model.head.num_classes))
    assert {"head.fc.weight", "backbone.stem.conv.weight"} <= moved
    if name == "localvmamba-search-demo_shapes":
        assert sum(n.endswith("combine.alpha") for n in moved) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "upernet_localvmamba-tiny_8xb2-160k_ade20k-512x512",
        "upernet_localvim-tiny_8xb2-160k_ade20k-512x512",
    ],
)
def test_segmentors_train_and_predict(name: str) -> None:
    torch.manual_seed(0)
    model = build(shallow(load(name)))
    losses, moved = train_step(model, segmentation_batch(64, 96, 150, count=2))
    assert {"decode.loss_ce", "aux.loss_ce"} <= set(losses)
    parameters = {n for n, _ in model.named_parameters() if n.startswith("backbone.")}
    assert parameters <= moved, "every layer gives the head something"
    (prediction,) = model.eval().test_step(segmentation_batch(65, 83, 150))
    assert prediction.pred_sem_seg.data.shape == (1, 65, 83)
    assert prediction.seg_logits.data.isfinite().all()


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("upernet")])
def test_segmentors_read_what_their_backbones_give(name: str) -> None:
    model = build_without_values(name)
    assert len(model.backbone.out_channels) == len(model.decode_head.in_channels) == 4
    assert list(model.backbone.out_channels) == list(model.decode_head.in_channels)
    assert model.auxiliary_head.in_channels == model.backbone.out_channels[2]
    if "localvim" in name:
        maps = [torch.zeros(1, c, 4, 4) for c in model.backbone.out_channels]
        neck = build(Config({**load(name), "model": load(name).model.neck})).eval()
        assert [y.shape[2] for y in neck(maps)] == [16, 8, 4, 2]


def test_large_scale_jitter_gives_images_and_truth(tmp_path: Path) -> None:
    cfg = copy.deepcopy(load("mask-rcnn_localvim-tiny_simple-fpn_lsj-25e_coco"))
    set_data_root(cfg, str(generate_shapes_coco(tmp_path / "shapes", 4, 1)))
    cfg.train_dataloader.dataset.metainfo = {"classes": SHAPE_CLASSES}
    init_default_scope("mmdet")
    np.random.seed(0)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for item in dataset:
        assert max(item["inputs"].shape[1:]) <= 1024
        truth = item["data_samples"].gt_instances
        assert truth.masks.masks.shape[1:] == item["inputs"].shape[1:]
        assert len(truth.masks) == len(truth.bboxes)


@pytest.mark.parametrize("training", [True, False])
def test_localvim_detects_in_images_padded_as_in_training(training: bool) -> None:
    cfg = load("mask-rcnn_localvim-tiny_simple-fpn_lsj-25e_coco")
    preprocessor = build(Config({**cfg, "model": cfg.model.data_preprocessor}))
    for size in ((683, 1024), (1024, 300)):
        data = preprocessor(detection_batch(*size, 80), training)
        assert data["inputs"].shape[2:] == (1024, 1024)
        assert data["data_samples"][0].batch_input_shape == (1024, 1024)


# Table 3 and 4 of the paper, in millions; the pyramid of LocalVim is ours.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mask-rcnn_localvmamba-tiny_fpn_1x_coco", 45),
        ("mask-rcnn_localvmamba-small_fpn_1x_coco", 69),
        ("upernet_localvmamba-tiny_8xb2-160k_ade20k-512x512", 57),
        ("upernet_localvmamba-small_8xb2-160k_ade20k-512x512", 81),
        ("upernet_localvim-tiny_8xb2-160k_ade20k-512x512", 36),
    ],
)
def test_parameters_are_those_of_the_paper(name: str, parameters: int) -> None:
    count = sum(p.numel() for p in build_without_values(name).parameters())
    assert round(count / 1e6) == parameters


def test_imagenet_recipe() -> None:
    cfg = load("localvmamba-tiny_8xb128_in1k")
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1e-4, 20)
    assert (decay.type, decay.begin, decay.eta_min) == ("CosineAnnealingLR", 20, 1e-6)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 0.04)
    assert cfg.optim_wrapper.clip_grad is None
    assert cfg.train_cfg.max_epochs == 300
    augments = [(a.type, a.alpha) for a in cfg.model.train_cfg.augments]
    assert augments == [("Mixup", 0.2), ("CutMix", 1.0)]


@pytest.mark.parametrize(
    ("name", "layers"), [(n, 20 if "vim" in n else 15) for n in NAMES if "-search_" in n][:2]
)
def test_search_recipe(name: str, layers: int) -> None:
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == 100
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert "mmquad.DirectionLogHook" in hooks
    assert "EMAHook" not in hooks, "the log reads the trained weights, not averages"
    groups = decay_of_parameters(name)
    alphas = [decay for n, decay in groups.items() if n.endswith("combine.alpha")]
    assert set(alphas) == {0.04}, "the weights of the directions decay, unlike other vectors"
    assert len(alphas) in (layers, 33)


def decay_of_parameters(name: str) -> dict[str, float]:
    model = build_without_values(name)
    names = {parameter: n for n, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, copy.deepcopy(load(name).optim_wrapper))
    found = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            found[names[parameter]] = group["weight_decay"]
    assert set(found) == set(names.values())
    return found


SPARED = ("A_log", "D_skip", "dt_bias", "conv_bias", "positions.table", "token", "position")


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        ("localvim-tiny-middle-cls_8xb128_in1k", 0.04),
        ("localvmamba-tiny_8xb128_in1k", 0.04),
        ("upernet_localvim-tiny_8xb2-160k_ade20k-512x512", 0.01),
    ],
)
def test_weight_decay_spares_norms_positions_and_state_space_parameters(name, decay) -> None:
    for parameter, found in decay_of_parameters(name).items():
        is_norm = re.search(r"(^|\.)(norm\d*|bn)\.(weight|bias)$", parameter)
        if parameter.endswith(SPARED) or is_norm:
            assert found == 0, parameter
        elif parameter.endswith((".conv_weight", "in_proj.weight", "x_proj", "stem.conv.weight")):
            assert found == decay, parameter


def test_layer_decay_reaches_every_block_of_localvim() -> None:
    name = "mask-rcnn_localvim-tiny_simple-fpn_lsj-25e_coco"
    model = build_without_values(name)
    names = {parameter: n for n, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, copy.deepcopy(load(name).optim_wrapper))
    blocks = set()
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group["params"]
        block = re.match(r"backbone\.stages\.(\d+)\.", names[parameter])
        if block:
            depth = int(block[1]) + 1
            blocks.add(depth)
        else:
            embedding = re.match(r"backbone\.(stem|positions)", names[parameter])
            depth = 0 if embedding else 20 if "backbone" in names[parameter] else 21
        assert group["lr"] == pytest.approx(1e-4 * 0.8 ** (21 - depth)), names[parameter]
    assert blocks == set(range(1, 21))
