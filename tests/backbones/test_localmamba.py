"""LocalVim and LocalVMamba: sizes of the paper, directions, settings, maps of any shape."""

from collections import Counter

import pytest
import torch
from cotangents import project
from torch import nn

from mmquad.backbones import LocalVim, LocalVMamba, VisionBackbone
from mmquad.backbones.local_directions import (
    FIXED_DIRECTIONS,
    LOCALVIM_SEARCHED,
    LOCALVMAMBA_SEARCHED,
    layer_directions,
)
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.scans.local import LOCAL_DIRECTIONS

VMAMBA = {"dim": 8, "depths": (1, 1, 1, 1), "directions": ("h v_flip w2 w7_flip",)}
VIM = {"dim": 16, "depth": 2, "grid": (3, 3), "directions": ("h v_flip w2 w7_flip",)}


# Of the release, counted by running its constructors.
@pytest.mark.parametrize(
    ("build", "arch", "parameters"),
    [
        (LocalVim, "tiny", 7_994_152),
        (LocalVim, "tiny-unsearched", 7_994_152),
        (LocalVim, "tiny-middle-cls", 7_994_536),
        (LocalVim, "small", 27_783_784),
        (LocalVim, "small-unsearched", 27_783_784),
        (LocalVim, "search", 5_473_288),
        (LocalVMamba, "tiny", 25_527_160),
        (LocalVMamba, "tiny-unsearched", 25_527_160),
        (LocalVMamba, "small", 49_748_536),
        (LocalVMamba, "tiny-search", 4_576_656),
        (LocalVMamba, "small-search", 9_148_512),
    ],
)
def test_parameters_are_those_of_the_release(build: type, arch: str, parameters: int) -> None:
    with torch.device("meta"):
        model = build(arch, out_indices=(-1,))
        head = nn.Linear(model.out_channels[-1], 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == parameters


# Occurrences of h, h_flip, v, v_flip, w2, w2_flip, w7, w7_flip, counted in the release's lists.
@pytest.mark.parametrize(
    ("table", "depth", "histogram"),
    [
        (LOCALVIM_SEARCHED, 20, [14, 14, 16, 15, 6, 6, 7, 2]),
        (LOCALVMAMBA_SEARCHED["tiny"], 15, [6, 11, 5, 11, 5, 8, 6, 8]),
        (LOCALVMAMBA_SEARCHED["small"], 33, [20, 18, 26, 25, 6, 7, 17, 13]),
    ],
)
def test_searched_directions(table: tuple[str, ...], depth: int, histogram: list[int]) -> None:
    layers = layer_directions(table, depth)
    assert len(table) == depth
    found = Counter(name for names in layers for name in names)
    assert [found[name] for name in LOCAL_DIRECTIONS] == histogram
    for names in layers:
        assert len(names) == 4
        assert sorted(names, key=LOCAL_DIRECTIONS.index) == list(names), "in the candidates' order"


def test_directions_of_every_layer() -> None:
    assert layer_directions("h v", 3) == [("h", "v")] * 3
    assert layer_directions(FIXED_DIRECTIONS, 2) == [("h", "h_flip", "w2", "w2_flip")] * 2
    assert layer_directions(["h", "v w3"], 2) == [("h",), ("v", "w3")]
    for wrong in (["h", "v"], [["h"], ["v"], ["h"]]):
        with pytest.raises(ValueError, match="one string for each of the 3 layers"):
            layer_directions(wrong, 3)


@pytest.mark.parametrize(("build", "arch"), [(LocalVim, VIM), (LocalVMamba, VMAMBA)])
def test_directions_can_be_replaced(build: type, arch: dict) -> None:
    model = build(arch, directions="v w5")
    scans = [m.scan for m in model.modules() if hasattr(m, "scan") and hasattr(m, "in_proj")]
    assert {scan.names for scan in scans} == {("v", "w5")}
    assert model.settings() == {"directions": ["v w5"] * len(scans), "pad_windows": True}
    assert build(arch, pad_windows=False).settings()["pad_windows"] is False
    with pytest.raises(ValueError, match=r"names must be at least one of .* got \['x'\]"):
        build(arch, directions="h x")


def test_named_archs_have_their_own_directions() -> None:
    with torch.device("meta"):
        searched, fixed = LocalVim("tiny"), LocalVim("tiny-unsearched")
    assert searched.settings()["directions"] == list(LOCALVIM_SEARCHED)
    assert fixed.settings()["directions"] == list(FIXED_DIRECTIONS) * 20


def test_weights_refuse_other_directions(tmp_path) -> None:
    """All lists of directions have weights of the same shapes, so the file has to say which."""
    model = LocalVim(VIM)
    meta = {"settings": model.settings()}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, tmp_path / "weights.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "weights.pth")}
    LocalVim(VIM, init_cfg=init_cfg).init_weights()
    with pytest.raises(CheckpointMismatchError, match=r"directions=\['h v_flip w2 w7_flip'"):
        LocalVim(VIM, directions="h h_flip v v_flip", init_cfg=init_cfg).init_weights()


def train_step(model: VisionBackbone, height: int, width: int) -> tuple[torch.Tensor, ...]:
    outputs = model.train()(torch.randn(1, 3, height, width))
    project(outputs).backward()
    assert all(y.isfinite().all() and y.is_contiguous() for y in outputs)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    return outputs


# 100 x 168 has the proportions of 800 x 1344.
@pytest.mark.parametrize(("height", "width"), [(100, 168), (37, 61), (3, 5)])
@pytest.mark.parametrize("pad_windows", [True, False])
def test_localvmamba_takes_any_image(height: int, width: int, pad_windows: bool) -> None:
    outputs = train_step(LocalVMamba(VMAMBA, pad_windows=pad_windows), height, width)
    rows, columns = max(height // 4, 1), max(width // 4, 1)
    for y in outputs:
        assert y.shape[2:] == (rows, columns)
        rows, columns = -(-rows // 2), -(-columns // 2)


@pytest.mark.parametrize(("height", "width"), [(100, 168), (37, 61), (3, 5)])
@pytest.mark.parametrize("class_token", [True, False])
def test_localvim_takes_any_image(height: int, width: int, class_token: bool) -> None:
    model = LocalVim(VIM | {"class_token": class_token}, out_indices=(0, 1))
    for y in train_step(model, height, width):
        assert y.shape == (1, 16, -(-height // 16), -(-width // 16))


@pytest.mark.parametrize("features", ["stream", "mixer"])
def test_features(features: str) -> None:
    model = LocalVim(VIM, features=features, out_indices=(0, 1))
    assert isinstance(model.norm0, nn.RMSNorm if features == "stream" else nn.LayerNorm)
    train_step(model, 40, 56)
    with pytest.raises(ValueError, match="features must be 'stream' or 'mixer', got 'x'"):
        LocalVim(VIM, features="x")


def test_class_token_output() -> None:
    model = LocalVim(VIM | {"class_token": True}, out_type="class_token").eval()
    assert model(torch.randn(2, 3, 48, 48))[0].shape == (2, 16)
    with pytest.raises(ValueError, match="needs class_token=True"):
        LocalVim(VIM, out_type="class_token")


def test_step_sizes_keep_mambas_initial_values() -> None:
    """The release sets all biases of step sizes to 0, that is steps of 0.69."""
    for block in LocalVim(VIM).stages:
        steps = nn.functional.softplus(block.mixer.ssm.dt_bias)
        assert steps.min() >= 1e-4
        assert steps.max() <= 0.1001


def test_search_network_weighs_all_candidates() -> None:
    arch = {**VMAMBA, "directions": (" ".join(LOCAL_DIRECTIONS),), "search": True}
    model = LocalVMamba(arch)
    alphas = [p for name, p in model.named_parameters() if name.endswith("combine.alpha")]
    assert [a.shape for a in alphas] == [(8,)] * 4
    train_step(model, 40, 40)
    assert all(a.grad.abs().max() > 0 for a in alphas)
