"""LocalMamba's weights: the directions are never guessed, and a converted file remembers them."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmquad.backbones import LocalVim, LocalVMamba
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.releases.convert import convert_file, convert_weights

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
import local_reference as reference

ROOT = Path(__file__).parents[2]


def localvim_tiny(class_token: bool = False) -> dict[str, Tensor]:
    shapes = reference.localvim_shapes(192, 20, 196, 1000, 4, class_token)
    return {name: torch.full(shape, 0.01) for name, shape in shapes.items()}


def test_localvim_needs_its_arch() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"--arch\): one of tiny, small, tiny-middle"):
        convert_weights(localvim_tiny())
    with pytest.raises(CheckpointMismatchError, match="LocalVim has no architecture 'base'"):
        convert_weights(localvim_tiny(), "base")


def test_localvmamba_needs_its_arch() -> None:
    shapes = reference.localvmamba_shapes(8, [1])
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(CheckpointMismatchError, match="weights of LocalVMamba do not say in which"):
        convert_weights(weights)
    with pytest.raises(CheckpointMismatchError, match="does not fit LocalVMamba"):
        convert_weights(weights, "tiny")


def test_middle_class_token_is_another_arch() -> None:
    assert convert_weights(localvim_tiny(True), "tiny-middle-cls").arch == "tiny-middle-cls"
    with pytest.raises(CheckpointMismatchError, match=r"class_token\.token"):
        convert_weights(localvim_tiny(True), "tiny")


def test_tool_writes_a_file_that_refuses_other_directions(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    source, target = tmp_path / "local_vim_tiny.ckpt", tmp_path / "tiny.pth"
    torch.save({"state_dict": localvim_tiny()}, source)
    tool = ROOT / "tools" / "model_converters" / "convert_checkpoint.py"
    arguments = [tool.name, str(source), str(target), "--arch", "tiny"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(tool), run_name="__main__")
    assert "arch      tiny\n" in capsys.readouterr().out
    init_cfg = {"type": "Pretrained", "checkpoint": str(target), "prefix": "backbone."}
    LocalVim("tiny", init_cfg=init_cfg).init_weights()
    with pytest.raises(CheckpointMismatchError, match="with other settings: directions"):
        LocalVim("tiny-unsearched", init_cfg=init_cfg).init_weights()


def test_released_detector_keeps_its_neck(tmp_path: Path) -> None:
    shapes = reference.localvmamba_shapes(96, [2, 2, 9, 2])
    weights = {f"backbone.{name}": torch.full(s, 0.01) for name, s in shapes.items()}
    source = tmp_path / "detector.pth"
    torch.save({"state_dict": weights | {"neck.weight": torch.zeros(1)}}, source)
    result = convert_file(source, tmp_path / "out.pth", arch="tiny")
    assert result.matched == result.total == len(LocalVMamba("tiny").state_dict())
    assert "neck.weight" in result.state_dict
