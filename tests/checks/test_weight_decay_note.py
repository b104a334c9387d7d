"""A training that would decay A, D and the bias of the step sizes says so before it starts."""

from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from mmquad.checks.weight_decay import note_decay
from mmquad.compat import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
OPTIMIZER = {"type": "SGD", "lr": 0.02, "weight_decay": 1e-4}
BACKBONE = {"type": "mmquad.QuadMamba", "arch": "lite"}


def config(wrapper: dict, model: dict | None = None) -> ConfigDict:
    return ConfigDict(model=model or {"backbone": BACKBONE}, optim_wrapper=wrapper)


def test_a_stock_schedule_is_noted() -> None:
    (note,) = note_decay(config({"optimizer": OPTIMIZER}))
    for part in ("decay of 0.0001", "mmquad.QuadMamba", "mmquad.StateSpaceOptimWrapperConstructor"):
        assert part in note


@pytest.mark.parametrize(
    ("wrapper", "model"),
    [
        ({"optimizer": {"type": "AdamW", "lr": 1e-4}}, None),  # decays by default
        ({"optimizer": OPTIMIZER, "paramwise_cfg": {"norm_decay_mult": 0.0}}, None),
        ({"optimizer": OPTIMIZER}, {"detector": {"backbone": BACKBONE, "neck": {}}}),
        ({"optimizer": OPTIMIZER, "paramwise_cfg": None}, {"backbone": BACKBONE, "init_cfg": None}),
    ],
)
def test_others_that_decay(wrapper: dict, model: dict | None) -> None:
    assert len(note_decay(config(wrapper, model))) == 1


@pytest.mark.parametrize(
    ("wrapper", "model"),
    [
        ({"optimizer": OPTIMIZER | {"weight_decay": 0}}, None),
        ({"optimizer": {"type": "SGD", "lr": 0.1}}, None),
        ({"optimizer": OPTIMIZER, "constructor": "DefaultOptimWrapperConstructor"}, None),
        ({"optimizer": OPTIMIZER, "paramwise_cfg": {"custom_keys": {"A_log": {}}}}, None),
        ({"optimizer": OPTIMIZER}, {"backbone": {"type": "ResNet"}, "neck": {"type": "mmquad.X"}}),
        ({"optimizer": OPTIMIZER}, {"head": {}}),
    ],
)
def test_what_is_meant_or_harmless(wrapper: dict, model: dict | None) -> None:
    assert note_decay(config(wrapper, model)) == []


@pytest.mark.parametrize(
    "name",
    [
        "mmdet/vmamba/mask-rcnn_vmamba-vanilla-tiny_fpn_released-decay-1x_coco",
        "mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512",
        "mmpretrain/vim/vim-tiny_8xb128_in1k",
    ],
)
def test_configs_of_this_package(name: str) -> None:
    assert note_decay(load_config(str(CONFIGS / f"{name}.py"))) == []
