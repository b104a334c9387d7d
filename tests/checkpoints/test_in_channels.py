"""Weights for three channels in models for one, four or ten."""

from pathlib import Path

import pytest
import torch
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
    VisionBackbone,
    VMamba,
)
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.checkpoints.in_channels import adapt_in_channels

PYRAMID = {"dim": 8, "depths": (1,), "ssm_ratio": 1}
LAYERS = {"dim": 8, "depth": 1, "grid": (2, 2), "d_state": 1}
HYBRID = {"dim": 8, "stem_dim": 4, "depths": (1,), "num_heads": (), "window": ()}
GROUPS = {"dims": (8,), "stem_dim": 4, "depths": (1,), "mlp_ratios": (2,)}
MODELS = {
    "quadmamba": (QuadMamba, PYRAMID, "stem.conv1.weight"),
    "vmamba-vanilla": (VMamba, PYRAMID | {"overlap": False}, "stem.conv.weight"),
    "localvmamba": (LocalVMamba, PYRAMID, "stem.conv.weight"),
    "mambavision": (MambaVision, HYBRID, "stem.conv1.weight"),
    "efficientvmamba": (EfficientVMamba, {"dim": 8, "depths": (1,)}, "stem.conv.weight"),
    "groupmamba": (GroupMamba, GROUPS, "stem.convs.0.weight"),
    "spatialmamba": (SpatialMamba, {"dim": 8, "depths": (1,)}, "stem.conv1.weight"),
    "localvim": (LocalVim, LAYERS, "stem.conv.weight"),
    "plainmamba": (PlainMamba, LAYERS, "stem.convs.0.weight"),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[VisionBackbone, type, dict, str]:
    """A model for three channels, its class and arch, and the name of its first convolution."""
    torch.manual_seed(0)
    kind, arch, name = request.param
    model = kind(arch).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "rgb.pth")
    return model, kind, arch, name


def load(saved: tuple, path: Path, in_channels: int, how: str | None) -> VisionBackbone:
    init_cfg = {"type": "Pretrained", "checkpoint": str(path / "rgb.pth")}
    init_cfg |= {"adapt_in_channels": how} if how else {}
    model = saved[1](saved[2], in_channels=in_channels, init_cfg=init_cfg).eval()
    model.init_weights()
    return model


def test_grey_images_give_what_they_would_give_three_times(saved: tuple, tmp_path: Path) -> None:
    image = torch.randn(2, 1, 32, 32)
    (mine,) = load(saved, tmp_path, 1, "sum")(image)
    torch.testing.assert_close(mine, saved[0](image.repeat(1, 3, 1, 1))[0], atol=1e-5, rtol=1e-4)


def test_ten_channels_by_sum(saved: tuple, tmp_path: Path) -> None:
    """Each has its share: ten times the same grey image is one grey image."""
    image = torch.randn(2, 1, 32, 32)
    (mine,) = load(saved, tmp_path, 10, "sum")(image.repeat(1, 10, 1, 1))
    torch.testing.assert_close(mine, saved[0](image.repeat(1, 3, 1, 1))[0], atol=1e-5, rtol=1e-4)


def test_six_channels_by_repetition(saved: tuple, tmp_path: Path) -> None:
    """The average of two images, channel by channel."""
    first, second = torch.randn(2, 2, 3, 32, 32)
    (mine,) = load(saved, tmp_path, 6, "repeat")(torch.cat([first, second], dim=1))
    torch.testing.assert_close(mine, saved[0]((first + second) / 2)[0], atol=1e-5, rtol=1e-4)


def test_kernels_of_four_channels(saved: tuple, tmp_path: Path) -> None:
    model, name = load(saved, tmp_path, 4, "repeat"), saved[3]
    mine, theirs = model.state_dict(), saved[0].state_dict()
    torch.testing.assert_close(mine[name], theirs[name][:, [0, 1, 2, 0]] * 0.75)
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs if k != name)


@pytest.mark.parametrize("how", ["sum", "repeat"])
def test_equal_channels_change_nothing(saved: tuple, how: str, tmp_path: Path) -> None:
    mine, theirs = load(saved, tmp_path, 3, how).state_dict(), saved[0].state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_the_refusal_names_the_setting(saved: tuple, tmp_path: Path) -> None:
    message = (
        r"wrong shape \(1\):\n +stem.*\n.*images of 3 channels, the model is for 4: set "
        r"adapt_in_channels='sum' or 'repeat' in init_cfg"
    )
    with pytest.raises(CheckpointMismatchError, match=message):
        load(saved, tmp_path, 4, None)


def test_what_is_no_adaptation_is_refused(saved: tuple, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of \('sum', 'repeat'\), got 'mean'"):
        load(saved, tmp_path, 4, "mean")


def test_other_shapes_are_left_to_the_strict_comparison() -> None:
    own = nn.Conv2d(4, 8, 3).state_dict()
    wider = {"stem.weight": nn.Conv2d(3, 9, 3).weight}
    assert adapt_in_channels({"stem.weight": own["weight"]}, wider, "sum") == wider
    elsewhere = {"conv.weight": nn.Conv2d(3, 8, 3).weight}
    assert adapt_in_channels({"conv.weight": own["weight"]}, elsewhere, "sum") == elsewhere
