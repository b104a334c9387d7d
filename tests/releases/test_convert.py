"""Released files become checkpoints that load entirely, or an error that says why not."""

import argparse
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file
from torch import Tensor

from mmquad.backbones import QuadMamba
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS
from mmquad.checkpoints import (
    CheckpointFileError,
    CheckpointMismatchError,
    file_sha256,
    read_checkpoint,
)
from mmquad.releases.convert import convert_file, convert_weights

sys.path.append(str(Path(__file__).parents[1] / "releases"))
from released import SMALL, released_weights, small_model

TOOL = Path(__file__).parents[2] / "tools" / "model_converters" / "convert_checkpoint.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "released.pth"
    torch.save({"model": released_weights()}, path)
    return path


def load(path: Path, **options) -> QuadMamba:
    init_cfg = {"type": "Pretrained", "checkpoint": str(path), "prefix": "backbone."}
    init_cfg |= options.pop("init", {})
    model = small_model(init_cfg=init_cfg, **options)
    model.init_weights()
    return model.eval()


def test_a_file_is_converted_with_all_it_needs(source: Path, tmp_path: Path):
    target = tmp_path / "new" / "converted.pth"
    result = convert_file(source, target)
    assert result.matched == result.total == len(small_model().state_dict())
    assert result.settings == {"quadtree": "released"}
    assert {k: result.arch[k] for k in SMALL} == SMALL
    assert result.arch["quad_stages"] == (0, 1)

    written = torch.load(target, weights_only=True)
    assert written["meta"] == result.meta
    assert written["meta"]["sha256"] == file_sha256(source)
    assert written["meta"]["source"] == "released.pth"
    assert written["state_dict"]["head.fc.weight"].shape == (5, 64)
    model = load(target)
    released = released_weights()
    assert torch.equal(model.stem.conv1.weight, released["patch_embed.0.weight"])
    a_log = model.stages[0][1].mixer.ssm.A_log
    assert torch.equal(a_log.flatten(0, 1), released["layers.0.blocks.1.op.A_logs"])
    assert torch.equal(model.norm3.bias, released["classifier.norm.bias"])
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", ["lite", "lite-r2", "tiny", "small"])
def test_named_architectures_are_recognised(name: str):
    arch = QUADMAMBA_ARCHS[name]
    from mmquad.releases.quadmamba import quadmamba_arch

    inner = int(arch.dim * arch.ssm_ratio)
    shapes = {
        "patch_embed.5.weight": (arch.dim, arch.dim // 2, 3, 3),
        "layers.0.blocks.0.op.in_proj.weight": (inner, arch.dim),
        "layers.0.blocks.0.op.x_proj_weight": (2, 5, inner),
        "layers.0.blocks.0.op.A_logs": (2 * inner, 1),
        "layers.3.blocks.0.op.x_proj_weight": (4, 5, 8 * inner),
        "layers.3.blocks.0.mlp.fc1.weight": (32 * arch.dim, 8 * arch.dim),
        "layers.0.blocks.0.op.score_predictor.in_conv.0.weight": (inner,),
        "layers.1.blocks.0.op.score_predictor.in_conv.0.weight": (2 * inner,),
    }
    for stage, depth in enumerate(arch.depths):
        shapes[f"layers.{stage}.blocks.{depth - 1}.norm.weight"] = (1,)
    fields = quadmamba_arch({k: torch.empty(v) for k, v in shapes.items()})
    assert type(arch)(**fields) == arch


def test_backbones_with_output_norms(tmp_path: Path):
    result = convert_weights(released_weights(None))
    assert {f"backbone.norm{i}.weight" for i in range(4)} <= set(result.state_dict)
    assert result.matched == result.total


def test_a_safetensors_file_is_converted_into_a_safetensors_file(source: Path, tmp_path: Path):
    """The same weights as from and into files of torch.save, and the same it says of itself."""
    weights = released_weights()
    shared = weights["patch_embed.0.weight"]
    released = tmp_path / "released.safetensors"
    save_file(weights, released, {"format": "pt"})
    target = tmp_path / "converted.safetensors"
    result = convert_file(released, target)
    plain = convert_file(source, tmp_path / "converted.pth")
    assert result.matched == plain.matched
    assert result.meta["sha256"] == file_sha256(released)
    expected, found = load(tmp_path / "converted.pth").state_dict(), load(target).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert torch.equal(found["stem.conv1.weight"], shared)

    meta = read_checkpoint(target)["meta"]
    assert meta == json.loads(json.dumps(result.meta))
    assert meta["settings"] == {"quadtree": "released"}
    assert target.stat().st_mode == (tmp_path / "converted.pth").stat().st_mode
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(CheckpointMismatchError, match="quadtree='released' there, 'paper' in this"):
        load(target, quadtree="paper")


def test_the_config_of_a_released_file_is_noted(source: Path, tmp_path: Path):
    row = {"file": "other.pth", "model": "QuadMamba", "config": "configs/mmpretrain/a.py"}
    rows = [row | {"arch": "tiny"}, row | {"arch": "b", "sha256": file_sha256(source)}]
    rows[1]["config"] = "configs/mmpretrain/b.py"
    meta = convert_file(source, tmp_path / "a.safetensors", table=rows).meta
    assert meta["config"] == "configs/mmpretrain/b.py"
    assert "config" not in convert_file(source, tmp_path / "a.pth", table=rows[:1]).meta


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_settings_are_refused_unless_asked_for(source: Path, tmp_path: Path, suffix: str):
    target = tmp_path / f"converted{suffix}"
    convert_file(source, target)
    message = r"quadtree='released' there, 'paper' in this model(.|\n)*ignore_settings=True"
    with pytest.raises(CheckpointMismatchError, match=message):
        load(target, quadtree="paper")
    paper = load(target, quadtree="paper", init={"ignore_settings": True})
    released = load(target)
    assert all(torch.equal(v, released.state_dict()[k]) for k, v in paper.state_dict().items())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(paper(image)[0], released(image)[0])


def test_mmpretrain_classifier_takes_the_whole_file(source: Path, tmp_path: Path):
    pytest.importorskip("mmpretrain.models")
    target = tmp_path / "converted.pth"
    convert_file(source, target)
    backbone = {"type": "mmquad.QuadMamba", "arch": SMALL, "out_indices": (3,)}
    classifier = MODELS.build(
        {
            "type": "ImageClassifier",
            "_scope_": "mmpretrain",  # whatever scope an earlier test has left as the default
            "backbone": {**backbone, "quadtree": "released"},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": 5, "in_channels": 64},
        }
    )
    weights = CheckpointLoader.load_checkpoint(str(target))["state_dict"]
    assert classifier.load_state_dict(weights, strict=True)


def test_trainers_dump(tmp_path: Path):
    dump = {
        "model": released_weights(),
        "model_ema": {k: v + 1 for k, v in released_weights().items()},
        "args": argparse.Namespace(lr=1e-3),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR,
    }
    source, target = tmp_path / "dump.pth", tmp_path / "converted.pth"
    torch.save(dump, source)
    with pytest.raises(CheckpointFileError, match="trust"):
        convert_file(source, target)
    assert not target.exists()
    plain = convert_file(source, target, trust=True)
    averaged = convert_file(source, target, trust=True, key="model_ema")
    for name, value in plain.state_dict.items():
        assert torch.equal(averaged.state_dict[name], value + 1)


def without(name: str) -> dict[str, Tensor]:
    weights = released_weights()
    del weights[name]
    return weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without("layers.2.blocks.0.op.Ds"), r"missing .*\(1\):\n +stages.2.0.mixer.ssm.D_skip"),
        (without("layers.2.blocks.0.op.dt_projs_bias"), "beside .*dt_projs_bias"),
        (without("patch_embed.5.weight"), "patch_embed.5.weight is missing"),
        (without("classifier.head.bias"), "expected classifier.head with weight"),
        (without("layers.0.blocks.0.op.A_logs"), "layers.0.blocks.0.op.A_logs is missing"),
        (released_weights() | {"pos_embed": torch.zeros(1)}, "'pos_embed' is not a name"),
        (
            released_weights() | {"layers.0.blocks.0.op.z": torch.zeros(1)},
            r"unexpected .*\(1\):\n +stages.0.0.mixer.z",
        ),
        (
            released_weights() | {"patch_embed.2.bias": torch.zeros(9)},
            r"wrong shape \(1\):\n +stem.norm1.bias: model \(4,\), checkpoint \(9,\)",
        ),
        (
            released_weights() | {"patch_embed.2.bias": torch.full((4,), torch.nan)},
            "1 entries hold NaN or infinity, e.g. .'patch_embed.2.bias'",
        ),
        (
            released_weights() | {"patch_embed.2.bias": torch.zeros(4, dtype=torch.int8)},
            "expected floating point weights, got patch_embed.2.bias of torch.int8",
        ),
    ],
)
def test_what_does_not_fit_is_named(weights: dict, message: str):
    with pytest.raises(CheckpointMismatchError, match=message):
        convert_weights(weights)


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [TOOL.name, *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")


def test_the_tool(source: Path, tmp_path: Path, monkeypatch, capsys):
    target = tmp_path / "converted.pth"
    run(monkeypatch, source, target)
    printed = capsys.readouterr().out
    total = len(small_model().state_dict())
    assert f"matched {total} of {total}, missing 0, unexpected 0" in printed
    assert "quadtree  released" in printed
    assert file_sha256(source) in printed
    assert target.is_file()


def test_the_tool_says_what_is_wrong_and_writes_nothing(source: Path, tmp_path, monkeypatch):
    source.write_bytes(b"<html>404</html>")
    with pytest.raises(SystemExit, match=r"Nothing was written\.\n.*an HTML page"):
        run(monkeypatch, source, tmp_path / "converted.pth")
    torch.save({"model": {"cls_token": torch.zeros(1), "blocks.0.attn.q": torch.zeros(1)}}, source)
    with pytest.raises(SystemExit, match=r"released.pth: not weights of .* ViT \(DeiT\)"):
        run(monkeypatch, source, tmp_path / "converted.pth")
    assert list(tmp_path.iterdir()) == [source]
