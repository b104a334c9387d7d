"""``from_pretrained``: the model that the weights are of, whole, or an error."""

from pathlib import Path

import pytest
import torch
from hub_cache import lay, use_cache
from test_contract import BACKBONES, Case

from mmquad.backbones import HierarchicalBackbone, QuadMamba, VisionBackbone, VMamba
from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.checkpoints.safetensors_files import write_safetensors
from mmquad.registry import MODELS

ARCH = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)}


def saved(folder: Path, **arguments) -> QuadMamba:
    torch.manual_seed(0)
    model = QuadMamba(ARCH, **arguments)
    model.save_pretrained(folder)
    return model


def same_weights(mine: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    mine, theirs = mine.state_dict(), theirs.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("case", BACKBONES.values(), ids=BACKBONES)
def test_every_family_comes_back(case: Case, tmp_path: Path):
    torch.manual_seed(0)
    model = case.build(**case.settings, in_channels=2).eval()
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    for family in (VisionBackbone, case.build):
        loaded = family.from_pretrained(tmp_path)
        assert type(loaded) is case.build
        assert not loaded.training
        assert loaded.settings() == model.settings()
        assert loaded.out_indices == model.out_indices
        assert same_weights(loaded, model)
    image = torch.randn(1, 2, 40, 33)
    assert all(torch.equal(x, y) for x, y in zip(loaded(image), model(image), strict=True))


def test_mambavision_keeps_the_norm_that_was_trained(tmp_path: Path):
    """A classifier's batch norm; detectors get new LayerNorms in its place, on request."""
    case = BACKBONES["mambavision"]
    torch.manual_seed(0)
    model = case.build(**case.settings, output_norm="batch", out_indices=(3,))
    model.norm3.running_mean.fill_(0.5)
    model.save_pretrained(tmp_path)
    loaded = VisionBackbone.from_pretrained(tmp_path)
    assert same_weights(loaded, model)
    asked = VisionBackbone.from_pretrained(tmp_path, output_norm="layer")
    assert isinstance(asked.norm3, torch.nn.LayerNorm)


def test_arguments_stand_above_what_the_weights_say(tmp_path: Path):
    model = saved(tmp_path)
    loaded = VisionBackbone.from_pretrained(tmp_path, out_indices=(0,), frozen_stages=1)
    assert loaded.out_indices == (0,)
    assert not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(TypeError, match="froze"):
        VisionBackbone.from_pretrained(tmp_path, froze=1)
    with pytest.raises(CheckpointMismatchError, match="trained with other settings"):
        VisionBackbone.from_pretrained(tmp_path, quadtree="released")
    other = VisionBackbone.from_pretrained(tmp_path, quadtree="released", ignore_settings=True)
    assert same_weights(other, model)
    with pytest.raises(CheckpointMismatchError, match="images of 3 channels, the model is for 1"):
        VisionBackbone.from_pretrained(tmp_path, in_channels=1)
    grey = VisionBackbone.from_pretrained(tmp_path, in_channels=1, adapt_in_channels="sum")
    assert grey.stem.conv1.weight.shape[1] == 1


def test_only_trained_norms_are_made_unless_asked_for(tmp_path: Path):
    saved(tmp_path, out_indices=(1,))
    assert QuadMamba.from_pretrained(tmp_path).out_indices == (1,)
    assert QuadMamba.from_pretrained(tmp_path, out_indices=(0, 1)).out_indices == (0, 1)


def test_the_class_must_be_that_of_the_weights(tmp_path: Path):
    saved(tmp_path)
    with pytest.raises(CheckpointMismatchError, match=r"not of VMamba: call QuadMamba\.from_pre"):
        VMamba.from_pretrained(tmp_path)
    assert type(HierarchicalBackbone.from_pretrained(tmp_path)) is QuadMamba

    class Subclass(QuadMamba):
        pass

    assert type(Subclass.from_pretrained(tmp_path)) is Subclass
    Subclass(ARCH).save_pretrained(tmp_path / "sub")
    with pytest.raises(CheckpointMismatchError, match="is for Subclass, which this version does"):
        VisionBackbone.from_pretrained(tmp_path / "sub")
    MODELS.register_module(module=Subclass)
    try:
        assert type(VisionBackbone.from_pretrained(tmp_path / "sub")) is Subclass
        assert type(QuadMamba.from_pretrained(tmp_path / "sub")) is Subclass
    finally:
        del MODELS.module_dict["Subclass"]


def test_whole_models_files_and_addresses(tmp_path: Path, monkeypatch):
    model = saved(tmp_path)
    weights = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    whole = tmp_path / "whole.safetensors"
    head = {"head.fc.bias": torch.zeros(3)}
    write_safetensors(whole, weights | head, {"source": "x", **model.description()})
    torch.save({"state_dict": weights, "meta": model.description()}, tmp_path / "whole.pth")
    use_cache(tmp_path / "hub", monkeypatch)
    lay(tmp_path / "hub", "o/n", "model.safetensors", whole.read_bytes())
    for source in (str(whole), tmp_path / "whole.pth", "hf://o/n", whole.as_uri()):
        assert same_weights(QuadMamba.from_pretrained(source), model)
    monkeypatch.chdir(tmp_path)
    whole.rename("weights")  # looks like a registered name
    assert same_weights(QuadMamba.from_pretrained("weights"), model)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/other.safetensors").touch()
    with pytest.raises(CheckpointFileError, match=r"has no model\.safetensors.*other\.safetens"):
        VisionBackbone.from_pretrained("folder")
    for absent in ("absent/folder", "absent.pth", tmp_path / "absent"):
        with pytest.raises(CheckpointFileError, match="does not exist"):
            VisionBackbone.from_pretrained(absent)
    with pytest.raises(CheckpointFileError, match=r"nor the name of an official.*vmamba-tiny"):
        VisionBackbone.from_pretrained("vmamba-tiny")
    torch.save({"state_dict": QuadMamba(ARCH).state_dict()}, "plain.pth")
    with pytest.raises(CheckpointMismatchError, match=r"does not say which model.*(.|\n)*init_cfg"):
        QuadMamba.from_pretrained("plain.pth")
