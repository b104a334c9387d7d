"""What a backbone tells optimizers: which parameters must not decay, and how deep each one is."""

import re

import pytest
from torch import nn

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
from mmquad.layers import exempt_parameters

PYRAMID = {"dim": 8, "depths": (2, 1, 1)}
LAYERS = {"dim": 8, "depth": 3, "grid": (2, 2), "d_state": 2}
SSM = {"A_log", "D_skip", "dt_bias"}
# The last words of the names of what does not decay, in each family.
EXEMPT: dict[str, tuple[VisionBackbone, set[str]]] = {
    "quadmamba": (QuadMamba(PYRAMID | {"ssm_ratio": 1}, out_indices=(0, 2)), SSM),
    "vmamba": (VMamba(PYRAMID | {"ssm_ratio": 1}, out_indices=(0, 2)), SSM),
    "localvmamba": (LocalVMamba(PYRAMID, out_indices=(0, 2)), SSM),
    "mambavision": (
        MambaVision(
            PYRAMID | {"stem_dim": 4, "num_heads": (2,), "window": (3,), "layer_scale": 0.1},
            out_indices=(0, 2),
        ),
        {*SSM, "scale1.weight", "scale2.weight"},
    ),
    "efficientvmamba": (EfficientVMamba(PYRAMID, out_indices=(0, 2)), SSM),
    "groupmamba": (
        GroupMamba(
            {"dims": (8, 12, 16), "stem_dim": 4, "depths": (2, 1, 2), "mlp_ratios": (2, 2, 2)},
            out_type="class_token",
            out_indices=(0, 2),
        ),
        {*SSM, "mixer.scale"},
    ),
    "spatialmamba": (SpatialMamba(PYRAMID, out_indices=(0, 2)), {*SSM, "fusion.alpha"}),
    "vim": (
        Vim(LAYERS, out_indices=(0, 2)),
        {*SSM, "conv_bias", "positions.table", "class_token.token", "class_token.position"}
        | {"norm1.weight", "norm0.weight", "norm2.weight"},
    ),
    "localvim": (
        LocalVim(LAYERS, out_indices=(0, 2)),
        {*SSM, "conv_bias", "positions.table", "norm1.weight", "norm0.weight", "norm2.weight"},
    ),
    "plainmamba": (
        PlainMamba(LAYERS | {"conv_layers": (1,)}, out_indices=(0, 2)),
        {*SSM, "direction_B", "positions.table"},
    ),
}


@pytest.mark.parametrize(("model", "expected"), EXEMPT.values(), ids=EXEMPT)
def test_what_does_not_decay(model: VisionBackbone, expected: set[str]) -> None:
    exempt = exempt_parameters(model)
    for name, _ in model.named_parameters():
        ends = [end for end in expected if name == end or name.endswith(f".{end}")]
        assert (name in exempt) == bool(ends), name
    for end in expected:
        assert any(name.endswith(end) for name in exempt), end


def test_depths_of_a_hierarchical_backbone() -> None:
    model = LocalVMamba(PYRAMID, out_indices=(0, 2))
    expected = {"stem": 0, "stages.0.0": 1, "stages.0.1": 2, "norm0": 2, "downsamples.0": 3}
    expected |= {"stages.1.0": 3, "downsamples.1": 4, "stages.2.0": 4, "norm2": 4}
    check_depths(model, expected, last=5)


def test_depths_end_with_the_last_stage_that_is_built() -> None:
    model = QuadMamba(PYRAMID | {"ssm_ratio": 1}, out_indices=(0,))
    expected = {"stem": 0, "stages.0.0": 1, "stages.0.1": 2, "norm0": 2}
    check_depths(model, expected, last=3)


@pytest.mark.parametrize("family", ["vim", "localvim", "plainmamba"])
def test_depths_of_an_isotropic_backbone(family: str) -> None:
    """A layer of PlainMamba is one block, also where it ends with a convolution."""
    model = EXEMPT[family][0]
    expected = {"stem": 0, "positions": 0, "class_token": 0, "norm0": 1, "norm2": 3}
    check_depths(model, expected | {f"stages.{i}": i + 1 for i in range(3)}, last=4)


def check_depths(model: VisionBackbone, expected: dict[str, int], last: int) -> None:
    for name, _ in model.named_parameters():
        (depth,) = [d for part, d in expected.items() if re.match(re.escape(part) + r"\.", name)]
        assert model.get_layer_depth(name) == (depth, last + 1), name
        assert model.get_layer_depth(f"backbone.{name}", "backbone.") == (depth, last + 1), name
    for name in ("head.fc.weight", "neck.stages.0.weight"):
        assert model.get_layer_depth(name, "backbone.") == (last, last + 1)


@pytest.mark.parametrize("family", EXEMPT)
def test_the_constructor_of_mmpretrain_takes_these_depths(family: str) -> None:
    """Its layer-wise decay asks the classifier, which asks ``get_layer_depth``."""
    registry = pytest.importorskip("mmpretrain.registry")
    backbone, _ = EXEMPT[family]

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = backbone, nn.Linear(8, 2)

        def get_layer_depth(self, name: str) -> tuple[int, int]:  # as ImageClassifier has it
            return self.backbone.get_layer_depth(name, "backbone.")

    constructor = registry.OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            "type": "mmpretrain.LearningRateDecayOptimWrapperConstructor",
            "optim_wrapper_cfg": {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 1.0, "weight_decay": 0.1},
            },
            "paramwise_cfg": {"layer_decay_rate": 0.5},
        }
    )
    groups = {g["param_name"]: g for g in constructor(Classifier()).optimizer.param_groups}
    last = max(group["layer_id"] for group in groups.values())
    assert groups["head.weight"]["lr"] == 1.0
    assert last == sum(backbone.depths) + 1
    first = next(name for name in groups if name.startswith("backbone.stages.0."))
    assert groups[first]["lr"] == 0.5 ** (last - 1)
    stem = next(name for name in groups if name.startswith("backbone.stem."))
    assert groups[stem]["lr"] == 0.5**last
