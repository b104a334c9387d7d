"""Rates and decays of single parameters: what layers exempt, and rates that fall with depth."""

import copy
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVim,
    LocalVMamba,
    MambaVision,
    PlainMamba,
    QuadMamba,
    SpatialMamba,
    Vim,
    VisionBackbone,
    VMamba,
)
from mmquad.compat import load_config
from mmquad.layers import exempt_parameters
from mmquad.optim import StateSpaceOptimWrapperConstructor
from mmquad.registry import OPTIM_WRAPPER_CONSTRUCTORS

NAME = "mmquad.StateSpaceOptimWrapperConstructor"
LR, DECAY = 1e-2, 0.1

LAYERS = {"dim": 8, "depth": 3, "grid": (2, 2), "d_state": 2}
PYRAMID = {"dim": 8, "depths": (2, 1, 3)}
MLPS = PYRAMID | {"ssm_ratio": 1}
# Of three layers; of stages of two, one and three blocks. The last output is that of the last.
ISOTROPIC = {"stem": 0, "positions": 0, "class_token": 0, "norm1": 2, "norm2": 3}
ISOTROPIC |= {f"stages.{i}": i + 1 for i in range(3)}
HIERARCHICAL = {"stem": 0, "norm0": 2, "norm2": 6, "downsamples.0": 3, "downsamples.1": 4}
HIERARCHICAL |= {"stages.0.0": 1, "stages.0.1": 2, "stages.1.0": 3}
HIERARCHICAL |= {f"stages.2.{j}": 4 + j for j in range(3)}
GROUPS = {"dims": (8, 12, 16), "stem_dim": 4, "depths": (2, 1, 3), "mlp_ratios": (2, 2, 2)}
FAMILIES: dict[str, tuple[Callable[[], VisionBackbone], dict[str, int]]] = {
    "quadmamba": (lambda: QuadMamba(MLPS, out_indices=(0, 2)), HIERARCHICAL),
    "vmamba": (lambda: VMamba(MLPS, out_indices=(0, 2)), HIERARCHICAL),
    "localvmamba": (lambda: LocalVMamba(PYRAMID, out_indices=(0, 2)), HIERARCHICAL),
    "mambavision": (
        lambda: MambaVision(
            PYRAMID | {"stem_dim": 4, "num_heads": (2,), "window": (3,)}, out_indices=(0, 2)
        ),
        HIERARCHICAL,
    ),
    "efficientvmamba": (lambda: EfficientVMamba(PYRAMID, out_indices=(0, 2)), HIERARCHICAL),
    "groupmamba": (lambda: GroupMamba(GROUPS, out_indices=(0, 2)), HIERARCHICAL | {"norm1": 3}),
    "spatialmamba": (lambda: SpatialMamba(PYRAMID, out_indices=(0, 2)), HIERARCHICAL),
    "vim": (lambda: Vim(LAYERS, out_indices=(1, 2)), ISOTROPIC),
    "localvim": (lambda: LocalVim(LAYERS, out_indices=(1, 2)), ISOTROPIC),
    "plainmamba": (
        lambda: PlainMamba(LAYERS | {"conv_layers": (0, 2)}, out_indices=(1, 2)),
        ISOTROPIC,
    ),
}
each_family = pytest.mark.parametrize(("build", "depths"), FAMILIES.values(), ids=FAMILIES)


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(8, 8, 1)
        self.norm = nn.LayerNorm(8)


def small() -> Detector:
    return Detector(VMamba(MLPS | {"depths": (1, 1)}, out_indices=(0, 1)))


def settings(
    model: nn.Module, optimizer: dict | None = None, constructor: str = NAME, **paramwise: Any
) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter that is trained, by name."""
    config: dict[str, Any] = {"type": "OptimWrapper", "constructor": constructor}
    config["optimizer"] = optimizer or {"type": "AdamW", "lr": LR, "weight_decay": DECAY}
    if paramwise:
        config["paramwise_cfg"] = paramwise
    wrapper = build_optim_wrapper(model, config)
    assert isinstance(wrapper, OptimWrapper)
    names = {p: n for n, p in model.named_parameters()}
    return {
        names[p]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }


@each_family
def test_what_layers_exempt_does_not_decay(build: Callable, depths: dict) -> None:
    """One line in a config is enough: no other option, no pattern of names."""
    model = Detector(build())
    exempt = exempt_parameters(model)
    found = settings(model)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (rate, decay) in found.items():
        assert rate == LR
        assert decay == (0 if name in exempt else DECAY), name
    assert 0 < len(exempt) < len(found)


def test_norms_and_biases_as_mmengine_has_them() -> None:
    model = small()
    exempt = exempt_parameters(model)
    theirs = settings(model, constructor="DefaultOptimWrapperConstructor", norm_decay_mult=0.0)
    mine = settings(model, norm_decay_mult=0.0)
    for name in mine:
        assert mine[name] == ((LR, 0.0) if name in exempt else theirs[name]), name
    assert mine["neck.bias"] == (LR, DECAY)
    assert mine["norm.weight"] == mine["backbone.norm0.bias"] == (LR, 0.0)


def test_keys_of_the_config_win_where_they_speak_of_decay() -> None:
    """As ever the longest key that is part of the name counts, and that one alone."""
    keys = {"backbone": {"lr_mult": 0.1}, "A_log": {"decay_mult": 0.9}}
    keys |= {"stages.0.0.mixer.ssm.A_log": {"decay_mult": 0.5}, "neck": {"decay_mult": 0.0}}
    found = settings(small(), custom_keys=keys)
    for name, expected in {
        "backbone.stages.0.0.mixer.ssm.A_log": (LR, DECAY / 2),
        "backbone.stages.1.0.mixer.ssm.A_log": (LR / 10, 0),
        "backbone.stages.0.0.mixer.ssm.dt_bias": (LR / 10, 0),
        "backbone.stages.0.0.mixer.in_proj.weight": (LR / 10, DECAY),
        "neck.weight": (LR, 0),
        "norm.weight": (LR, DECAY),
    }.items():
        assert found[name] == pytest.approx(expected), name


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_optimizers_whose_decay_is_their_default(optimizer: str) -> None:
    """AdamW decays by 0.01 unless told otherwise."""
    model = small()
    default = settings(model, {"type": optimizer, "lr": LR}, "DefaultOptimWrapperConstructor")
    ((_, decay),) = set(default.values())
    found = settings(model, {"type": optimizer, "lr": LR})
    exempt = exempt_parameters(model)
    assert {found[n][1] for n in exempt} == {0}
    assert {found[n][1] for n in found if n not in exempt} == {decay}


def test_decay_alone_leaves_the_exempt_where_they_are() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    config = {"constructor": NAME, "optimizer": {"type": "SGD", "lr": LR, "weight_decay": DECAY}}
    optimizer = build_optim_wrapper(model, config).optimizer
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    exempt = exempt_parameters(model)
    for name, parameter in model.named_parameters():
        if name in exempt or not before[name].any():  # zeros stay too
            assert parameter.equal(before[name]), name
        else:
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - LR * DECAY))


@pytest.mark.parametrize("rate", [0.5, 0.7])
@each_family
def test_rates_fall_with_depth(build: Callable, depths: dict[str, int], rate: float) -> None:
    model = Detector(build())
    last = max(depths.values()) + 1
    found = settings(
        model, layer_decay_rate=rate, custom_keys={"neck": {"lr_mult": 3.0, "decay_mult": 2.0}}
    )
    plain = settings(model)
    assert found.keys() == plain.keys()
    seen = set()
    for name, (lr, decay) in found.items():
        parts = [part for part in depths if re.match(rf"backbone\.{re.escape(part)}\.", name)]
        assert len(parts) == name.startswith("backbone."), name
        seen |= set(parts)
        expected = LR * rate ** (last - depths[parts[0]] if parts else 0)
        neck = name.startswith("neck")
        assert lr == pytest.approx(expected * (3 if neck else 1)), name
        assert decay == pytest.approx(plain[name][1] * (2 if neck else 1)), name
    assert seen == set(depths) - ({"class_token"} if "class_token" not in str(found) else set())


@each_family
def test_the_constructor_of_mmpretrain_finds_the_same_rates(build: Callable, depths: dict) -> None:
    if not find_spec("mmpretrain"):
        pytest.skip("mmpretrain is not installed")
    from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor

    class Classifier(Detector):
        def get_layer_depth(self, name: str) -> tuple[int, int]:
            return self.backbone.get_layer_depth(name, "backbone.")

    model = Classifier(build())
    config = {"optimizer": {"type": "AdamW", "lr": LR, "weight_decay": DECAY}}
    theirs = LearningRateDecayOptimWrapperConstructor(config, {"layer_decay_rate": 0.8})(model)
    mine = settings(model, layer_decay_rate=0.8)
    names = {p: n for n, p in model.named_parameters()}
    for group in theirs.optimizer.param_groups:
        name = names[group["params"][0]]
        assert group["lr"] == pytest.approx(mine[name][0]), name


def test_the_former_name() -> None:
    former = OPTIM_WRAPPER_CONSTRUCTORS.get("mmquad.LayerDecayConstructor")
    assert former is StateSpaceOptimWrapperConstructor
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(NAME) is former


def test_frozen_parameters_are_left_out() -> None:
    model = Detector(VMamba(MLPS, frozen_stages=1, out_indices=(0, 2)))
    found = settings(model, layer_decay_rate=0.5)
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any("stages.0." in name for name in found)
    assert found["backbone.stages.2.2.norm1.weight"][0] == pytest.approx(LR / 2)


def tied() -> Detector:
    """Two blocks share A; a head uses it too, under a name that declares nothing."""
    model = small()
    first, second = (stage[0].mixer.ssm for stage in model.backbone.stages)
    second.D_skip = nn.Parameter(first.D_skip.detach().clone())
    second.A_log = first.A_log
    model.first = nn.Module()
    model.first.weight = copy.deepcopy(second.dt_bias)  # a copy loses the mark of mamba_ssm
    second.dt_bias = model.first.weight
    return model


def test_tied_parameters() -> None:
    with pytest.raises(ValueError, match="parameters appear in more than one parameter group"):
        settings(tied())
    model = tied()
    found = settings(model, bypass_duplicate=True, layer_decay_rate=0.5)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["backbone.stages.0.0.mixer.ssm.A_log"] == (pytest.approx(LR / 4), 0)
    # named first in the backbone; exempt by what either place says
    assert found["backbone.stages.1.0.mixer.ssm.dt_bias"] == (pytest.approx(LR / 2), 0)


def wrapped_blocks(model: Detector) -> Detector:
    """As activation checkpointing and FSDP with ``use_orig_params`` wrap them."""
    for stage in model.backbone.stages:
        stage[0] = checkpoint_wrapper(stage[0])
    return model


WRAPPED = {
    "copy": copy.deepcopy,  # what EMA keeps
    "blocks": wrapped_blocks,
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_models_in_wrappers(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """mmengine unwraps what keeps its model as ``module``, as DistributedDataParallel does."""
    expected = settings(small(), layer_decay_rate=0.5)
    found = settings(wrap(small()), layer_decay_rate=0.5)
    inner = {
        re.sub(r"(^|\.)(_orig_mod|module|_checkpoint_wrapped_module)\.", r"\1", name): values
        for name, values in found.items()
    }
    assert inner == expected


def test_several_backbones_and_the_backbone_alone() -> None:
    alone = settings(small().backbone, layer_decay_rate=0.5)
    pair = nn.ModuleDict({"student": small(), "teacher": small()})
    found = settings(pair, layer_decay_rate=0.5)
    for part in pair:
        for name, values in alone.items():
            assert found[f"{part}.backbone.{name}"] == values
        assert found[f"{part}.neck.weight"] == (LR, DECAY)


def test_errors() -> None:
    for rate in (0, -0.5, 1.5):
        with pytest.raises(ValueError, match=rf"must be in \(0, 1\], .* got {rate}"):
            settings(small(), layer_decay_rate=rate)
    with pytest.raises(ValueError, match=r"needs a backbone of mmquad, .* got none in Linear"):
        settings(nn.Linear(2, 2), layer_decay_rate=0.5)
    assert settings(nn.Linear(2, 2), layer_decay_rate=1.0)["weight"] == (LR, DECAY)
    with pytest.raises(ValueError, match=r"set optimizer\.lr"):
        settings(small(), {"type": "AdamW"}, layer_decay_rate=0.5)


STOCK = {
    "mmdet": "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "mmseg": "mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py",
    "mmpretrain": "mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py",
}


@pytest.mark.parametrize(("library", "base"), STOCK.items(), ids=STOCK)
def test_a_stock_config_with_another_backbone_and_one_line(library: str, base: str, tmp_path):
    if not find_spec(library):
        pytest.skip(f"{library} is not installed")
    (tmp_path / "mine.py").write_text(
        f'_base_ = "{base}"\n'
        "arch = dict(dim=8, depths=(1, 1, 1, 1), ssm_ratio=1)\n"
        'model = dict(backbone=dict(_delete_=True, type="mmquad.VMamba", arch=arch))\n'
        f'optim_wrapper = dict(constructor="{NAME}")\n'
    )
    cfg = load_config(str(tmp_path / "mine.py"))
    init_default_scope(library)
    if library == "mmseg":
        cfg.model.pretrained = None  # of the ResNet
    with torch.device("meta"):
        model = import_module(f"{library}.registry").MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decays = {
        parameter: group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    exempt = exempt_parameters(model)
    assert len(exempt) == 4 * 3
    assert {decays[parameter] for parameter in exempt.values()} == {0}
    assert decays[model.backbone.stages[0][0].mixer.in_proj.weight] > 0
