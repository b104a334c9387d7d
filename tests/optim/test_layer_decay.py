"""Layer-wise decay: every block of every backbone has the rate of its depth."""

import re

import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmquad.backbones import LocalVim, LocalVMamba, QuadMamba
from mmquad.optim.layer_decay import parameter_depths


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(8, 8, 1)
        self.norm = nn.LayerNorm(8)


VIM = {"dim": 8, "depth": 3, "grid": (2, 2), "class_token": True}
VMAMBA = {"dim": 8, "depths": (2, 1, 3)}


def localvim() -> Detector:
    return Detector(LocalVim(VIM, out_indices=(1, 2)))


@pytest.mark.parametrize("rate", [0.5, 0.7])
def test_rates_and_decay_of_localvim(rate: float) -> None:
    model = localvim()
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.1},
            "constructor": "mmquad.LayerDecayConstructor",
            "paramwise_cfg": {
                "layer_decay_rate": rate,
                "norm_decay_mult": 0.0,
                "custom_keys": {"A_log": {"decay_mult": 0.0}, "neck": {"lr_mult": 3.0}},
            },
        },
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = set()
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group["params"]
        name = names[parameter]
        seen.add(name)
        block = re.match(r"backbone\.(?:stages\.|norm)(\d)", name)
        if block:
            depth = 1 + int(block[1])
        elif name.startswith("backbone."):
            assert re.match(r"backbone\.(stem|positions|class_token)\.", name)
            depth = 0
        else:
            depth = 4
        expected = 1e-2 * rate ** (4 - depth) * (3 if name.startswith("neck") else 1)
        assert group["lr"] == pytest.approx(expected), name
        if name.endswith("A_log"):
            assert group["weight_decay"] == 0
    assert seen == set(names.values())
    assert sum(name.endswith("A_log") for name in seen) == 3


def test_depths_of_a_hierarchical_backbone() -> None:
    backbone = LocalVMamba(VMAMBA, out_indices=(0, 2))
    depths = parameter_depths(Detector(backbone))
    expected = {"stem": 0, "norm0": 2, "norm2": 6}
    expected |= {"stages.0.0": 1, "stages.0.1": 2, "downsamples.0": 3, "stages.1.0": 3}
    expected |= {"downsamples.1": 4, "stages.2.0": 4, "stages.2.1": 5, "stages.2.2": 6}
    expected = {f"backbone.{part}.": depth for part, depth in expected.items()}
    expected |= {"neck.": 7, "norm.": 7}
    for name, depth in depths.items():
        (found,) = [d for part, d in expected.items() if name.startswith(part)]
        assert depth == found, name
    assert set(depths.values()) == set(range(8))


def test_every_family_has_a_depth_for_each_block() -> None:
    arch = {"dim": 8, "depths": (1, 2, 1, 1), "ssm_ratio": 1}
    depths = parameter_depths(QuadMamba(arch))
    assert set(depths.values()) == set(range(6))


def test_without_a_rate_nothing_changes() -> None:
    model = localvim()
    optimizer = {"type": "SGD", "lr": 0.1, "weight_decay": 0.0}
    config = {"optimizer": optimizer, "paramwise_cfg": {"norm_decay_mult": 0.0}}
    decayed = build_optim_wrapper(model, config | {"constructor": "mmquad.LayerDecayConstructor"})
    assert {group["lr"] for group in decayed.optimizer.param_groups} == {0.1}


def test_needs_one_backbone_of_this_package() -> None:
    with pytest.raises(ValueError, match="one backbone of mmquad, got 0 in Linear"):
        parameter_depths(nn.Linear(2, 2))
    pair = nn.ModuleList([localvim(), localvim()])
    with pytest.raises(ValueError, match="got 2 in ModuleList"):
        parameter_depths(pair)
