"""The ablations of QuadMamba: each differs from its recipe in the backbone alone, and trains."""

import copy
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS
from mmquad.compat import load_config
from mmquad.layers import ScanMixer
from mmquad.scans import CrossScan, LocalScan, QuadScan

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "mmpretrain" / "quadmamba"
LEAVES = sorted((FOLDER / "ablations").glob("*.py"))
SUFFIX = "_8xb128_in1k"
TINY_PARAMETERS = 10_322_648

each_leaf = pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)


@cache
def load(path: Path) -> Config:
    return load_config(str(path))


def build(cfg: Config) -> nn.Module:
    init_default_scope("mmpretrain")
    model = copy.deepcopy(cfg.model)
    # mmpretrain's runner passes the preprocessor of the config to the model
    model.data_preprocessor = {"type": "ClsDataPreprocessor", **cfg.data_preprocessor}
    model.data_preprocessor["batch_augments"] = dict(model.train_cfg)
    return MODELS.build(model)


def shrink(cfg: Config) -> Config:
    """Two blocks of 8 channels a stage: the second one is shifted where the config shifts."""
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    arch = backbone.arch
    arch = QUADMAMBA_ARCHS[arch]._asdict() if isinstance(arch, str) else dict(arch)
    backbone.arch = arch | {"dim": 8, "depths": (2, 2, 2, 1)}
    backbone.drop_path_rate = 0.0  # of two samples a branch may drop both
    cfg.model.head.in_channels = 64
    return cfg


@each_leaf
def test_leaf_differs_from_its_recipe_in_the_backbone_alone(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 20
    assert f"configs/mmpretrain/quadmamba/ablations/{path.name} 8" in text
    assert "Published: " in text
    variant = path.stem.removeprefix("quadmamba-").partition("_")[0]
    base = load(FOLDER / f"quadmamba-{variant}{SUFFIX}.py").to_dict()
    cfg = load(path).to_dict()
    backbones = [c["model"].pop("backbone") for c in (base, cfg)]
    assert cfg == base
    differing = {
        k for k in (*backbones[0], *backbones[1]) if backbones[0].get(k) != backbones[1].get(k)
    }
    assert differing
    assert differing <= {"arch", "quadtree"} or differing == {"arch", "type", "window"}


@each_leaf
def test_one_training_step_and_one_prediction(path: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = shrink(load(path))
    model = build(cfg)
    model.init_weights()
    model.train()
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    batch = {"inputs": images, "data_samples": samples}
    with torch.no_grad():
        (loss,) = model(**model.data_preprocessor(batch, True), mode="loss").values()
    assert float(loss) == pytest.approx(np.log(1000), rel=0.1)
    with torch.no_grad():
        for parameter in model.parameters():  # so that every gradient is far above rounding noise
            parameter.add_(0.3 * torch.randn_like(parameter))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    model.train_step(batch, OptimWrapper(optimizer))
    still = {key for key, old in before.items() if old.equal(model.state_dict()[key])}
    if "coarse1-fine2" in path.stem:  # one window: nothing to choose
        assert still == {key for key in before if ".selector." in key}
    else:
        assert still == set()
    model.eval()
    (prediction,) = model.test_step({"inputs": images[:1, :, :75], "data_samples": samples[:1]})
    assert prediction.pred_score.shape == (1000,)


def scans(name: str) -> list[list]:
    """Scans of every stage; the windows of fixed ones by name."""
    with torch.device("meta"):
        backbone = build(load(FOLDER / "ablations" / f"{name}{SUFFIX}.py")).backbone
    found = [[m.scan for m in s.modules() if isinstance(m, ScanMixer)] for s in backbone.stages]
    assert [len(stage) for stage in found] == list(backbone.arch.depths)
    return found


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("quadtree", [QuadScan(), QuadScan((1, 1))]),
        ("rows", [LocalScan(("h", "h_flip"), padded=False)] * 2),
        ("window28", [LocalScan(("w28", "w28_flip"), padded=False)] * 2),
        ("window14", [LocalScan(("w14", "w14_flip"), padded=False)] * 2),
        ("window2", [LocalScan(("w2", "w2_flip"), padded=False)] * 2),
    ],
)
def test_windows_of_the_first_stage(name: str, first: list) -> None:
    found = scans(f"quadmamba-tiny_stage1-{name}")
    assert found == [first, [CrossScan()] * 6, [CrossScan()] * 2, [CrossScan()] * 2]


def test_resolutions_levels_and_orders() -> None:
    expected = {
        "coarse1-fine2": QuadScan((1, 1), coarse_level=0),
        "coarse4-fine8": QuadScan((1, 1), coarse_level=2),
        "coarse4-fine8-top4": QuadScan((1, 1), coarse_level=2),
        "three-level": QuadScan((1, 1), levels=3),
        "top2": QuadScan((1, 1)),
        "no-context": QuadScan((1, 1)),
        "released-order": QuadScan((1, 1), nested=False),
        "released": QuadScan((1, 1), nested=False, scores_follow_shift=False, shift_by_height=True),
    }
    for name, scan in expected.items():
        found = scans(f"quadmamba-tiny_{name}")
        assert found[0][1] == scan, name
        assert found[2:] == [[CrossScan()] * 2] * 2, name


def test_layer_patterns() -> None:
    patterns = {name: scans(f"quadmamba-tiny_{name}") for name in ("lp1", "lp2", "lp3")}
    plain, shifted = QuadScan(), QuadScan((1, 1))
    assert patterns["lp1"] == [[plain] * 2, [plain] * 6, [plain] * 2, [CrossScan()] * 2]
    assert patterns["lp2"] == [[plain] * 2, [plain] * 6, [CrossScan()] * 2, [CrossScan()] * 2]
    assert patterns["lp3"][:2] == [[plain, shifted], [plain, shifted] * 3]


@pytest.mark.parametrize("depths", [(2, 2, 8, 2), (2, 8, 2, 2), (2, 2, 2, 8), (2, 4, 6, 2)])
def test_blocks_per_stage(depths: tuple[int, ...]) -> None:
    found = scans(f"quadmamba-small_depths-{'-'.join(map(str, depths))}")
    assert tuple(map(len, found)) == depths
    assert all(isinstance(scan, QuadScan) for scan in (*found[0], *found[1]))


@each_leaf
def test_learned_windows_cost_no_parameters(path: Path) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in build(load(path)).parameters())
    if "tiny" in path.stem and not re.search("stage1|lp1", path.stem):
        assert count == TINY_PARAMETERS
    else:
        assert count != TINY_PARAMETERS


def test_the_table_names_every_config_and_its_figure() -> None:
    text = (ROOT / "docs" / "ablations.md").read_text()
    linked = re.findall(r"\]\(\.\./configs/mmpretrain/quadmamba/ablations/(\S+?)\)", text)
    assert sorted(linked) == [path.name for path in LEAVES]
    for path in LEAVES:
        (row,) = (line for line in text.splitlines() if f"/{path.name})" in line)
        figures = re.findall(r"accuracy (\d\d\.\d)", path.read_text())
        assert all(f"{figure}†" in row for figure in figures), path.name
        assert bool(figures) == ("†" in row), path.name
