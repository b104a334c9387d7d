"""A part of any family is changed by a subclass that overrides the method which makes it."""

import re
from pathlib import Path

import pytest
import torch
from cotangents import project
from torch import Tensor, nn

from mmquad.backbones import (
    EfficientVMamba,
    FixedWindowQuadMamba,
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
from mmquad.layers import LocalSequenceMixer, MixerBlock, RMSNorm, SelectiveSSM
from mmquad.registry import MODELS

PYRAMID = {"dim": 8, "depths": (2, 1), "ssm_ratio": 1}
LAYERS = {"dim": 8, "depth": 2, "grid": (2, 2), "d_state": 1}
FAMILIES = {
    QuadMamba: {"arch": PYRAMID},
    FixedWindowQuadMamba: {"arch": PYRAMID, "window": 2},
    VMamba: {"arch": PYRAMID},
    LocalVMamba: {"arch": PYRAMID | {"d_state": 1}},
    MambaVision: {
        "arch": {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2), "num_heads": (2,), "window": (3,)}
    },
    EfficientVMamba: {"arch": {"dim": 8, "depths": (2, 1), "d_state": 1}},
    GroupMamba: {"arch": {"dims": (8, 12), "stem_dim": 4, "depths": (2, 1), "mlp_ratios": (2, 2)}},
    SpatialMamba: {"arch": {"dim": 8, "depths": (2, 1)}},
    Vim: {"arch": LAYERS, "out_indices": (0, 1)},
    LocalVim: {"arch": LAYERS, "out_indices": (0, 1)},
    PlainMamba: {"arch": LAYERS | {"conv_layers": (1,)}, "out_indices": (0, 1)},
}
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
IMAGE = torch.randn(1, 3, 33, 47, generator=torch.Generator().manual_seed(0))


class SquaredReLU(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu().square())


class PoolMixer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, *grid: int) -> Tensor:
        return x.flatten(1, -2).mean(1).view(len(x), *[1] * (x.ndim - 2), -1) * self.scale + x


def check(model: VisionBackbone) -> None:
    project(model(IMAGE)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@each_family
def test_another_norm(family: type[VisionBackbone]) -> None:
    class WithRMSNorm(family):
        def make_norm(self, dim: int) -> nn.Module:
            return RMSNorm(dim, eps=1e-3)

        def make_output_norm(self, stage: int) -> nn.Module:
            return self.make_norm(self.dims[stage])

        make_mixer_norm = make_norm

    model = WithRMSNorm(**FAMILIES[family])
    blocks = [m for m in model.modules() if hasattr(m, "mixer")]
    assert {type(block.norm1) for block in blocks} == {RMSNorm}
    assert (type(model.norm0), model.norm1.eps) == (RMSNorm, 1e-3)
    check(model)


@each_family
def test_another_mlp(family: type[VisionBackbone]) -> None:
    """Also in the families whose blocks have none."""

    class WithSquaredReLU(family):
        def make_mlp(self, dim: int) -> nn.Module:
            return SquaredReLU(dim)

    model = WithSquaredReLU(**FAMILIES[family])
    blocks = [m for m in model.modules() if hasattr(m, "mixer")]
    assert {type(block.mlp) for block in blocks} == {SquaredReLU}
    check(model)
    changed = model(IMAGE)[-1]
    for block in blocks:
        block.mlp = None
    assert not torch.allclose(model(IMAGE)[-1], changed)


@each_family
def test_another_mixer_stem_and_downsampling(family: type[VisionBackbone]) -> None:
    class WithoutScans(family):
        def make_mixer(self, stage: int, *_: int) -> nn.Module:
            return PoolMixer(self.dims[stage])

        def make_stem(self) -> nn.Module:
            self.seen_by_stem = self.in_channels, self.dims[0], type(self.arch)
            return super().make_stem()

    model = WithoutScans(in_channels=3, drop_path_rate=0.2, **FAMILIES[family])
    assert model.seen_by_stem == (3, 8, type(model.arch))
    assert not any(isinstance(m, SelectiveSSM) for m in model.modules())
    check(model)


def test_a_mixer_of_some_blocks_only() -> None:
    class OneAttentionBlock(LocalVim):
        def make_mixer(self, layer: int) -> nn.Module:
            return super().make_mixer(layer) if layer == 0 else PoolMixer(self.dim)

    model = OneAttentionBlock(LAYERS, out_indices=(0, 1))
    kinds = [type(block.mixer) for block in model.stages]
    assert kinds == [LocalSequenceMixer, PoolMixer]
    check(model)


@each_family
def test_what_a_misspelt_argument_says(family: type[VisionBackbone]) -> None:
    """The arguments that all share are written once, and still checked."""
    with pytest.raises(TypeError, match="frozen_stage'"):
        family(**FAMILIES[family], frozen_stage=1)


@each_family
def test_default_outputs(family: type[VisionBackbone]) -> None:
    settings = {k: v for k, v in FAMILIES[family].items() if k != "out_indices"}
    with torch.device("meta"):
        model = family(**settings)
    last = model.num_stages - 1
    expected = (last,) if "out_indices" in FAMILIES[family] else tuple(range(last + 1))
    assert model.out_indices == expected


def test_the_example_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    try:
        exec(code, names)
        model = MODELS.build({"type": "mmquad.MyMamba", "arch": PYRAMID})
    finally:
        MODELS.module_dict.pop("MyMamba", None)
    for block in (m for m in model.modules() if isinstance(m, MixerBlock)):
        assert (type(block.norm2), type(block.mlp)) == (RMSNorm, names["GatedMLP"])
    check(model)
    listed = set(re.findall(r"^\| `(\w+)\(", page, re.MULTILINE))
    made = {name for name in dir(QuadMamba) if name.startswith("make_")} - {"make_stage"}
    assert listed == made | {"init_module"}
