"""CONTRIBUTING.md: its three ways through the code are those that calls take, its example works."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import FrameType
from typing import Any

import pytest
import torch

import mmquad.scans.library as scan_tables
from mmquad.backbones import QuadMamba
from mmquad.engine.launch import plan_training
from mmquad.errors import SetupError
from mmquad.ops import use_backend
from mmquad.registry import MODELS
from mmquad.releases.convert import convert_file
from mmquad.scans.cache import TableCache

sys.path.append(str(Path(__file__).parent / "releases"))
from released import released_weights

ROOT = Path(__file__).parents[1]

TINY = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1}


def listed(title: str) -> list[list[str]]:
    """Files of the numbered lists below a heading, list by list."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    lists: list[list[str]] = []
    for number, path in re.findall(r"^(\d+)\. `(mmquad/[\w/]+\.py)`", section, re.MULTILINE):
        if number == "1":
            lists.append([])
        assert int(number) == len(lists[-1]) + 1
        lists[-1].append(path)
    return lists


def entered(call: Callable[[], Any]) -> list[str]:
    """Files of the package in the order in which functions of theirs are called first."""
    files: dict[str, None] = {}

    package = f"{ROOT}/mmquad/"

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code  # no paths here: a config's parser makes millions of calls
        if event == "call" and code.co_filename.startswith(package) and code.co_name != "<module>":
            files[code.co_filename.removeprefix(f"{ROOT}/")] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(files)


def check_way(way: list[str], files: list[str]) -> None:
    assert way == [path for path in files if path in way]


def test_the_way_of_an_image(monkeypatch):
    building, running = listed("An image, from `type='mmquad.QuadMamba'` to the kernel")
    monkeypatch.setattr(scan_tables, "table_cache", TableCache(2**20))  # nothing in it
    MODELS.build({"type": "mmquad.QuadMamba", "arch": TINY})  # imports what the registry names
    check_way(building, entered(lambda: MODELS.build({"type": "mmquad.QuadMamba", "arch": TINY})))

    model = QuadMamba(TINY).eval()
    with use_backend("chunked"):
        files = entered(lambda: model(torch.randn(1, 3, 33, 33)))
    check_way(running, files)
    # What is on neither list: the chosen backend, what ops share, and the rest of a block.
    others = {path for path in files if path not in running}
    assert {path for path in others if not path.startswith("mmquad/ops/")} == {
        "mmquad/layers/drop_path.py",
        "mmquad/layers/mlp.py",
    }


def test_the_way_of_a_config(tmp_path: Path, monkeypatch):
    (way,) = listed("A config, from `dist_train.sh` to the Runner")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = ROOT / "configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py"
    options = {"work_dir": str(tmp_path), "data_root": str(tmp_path / "none"), "resume": "auto"}

    def plan() -> None:
        with pytest.raises(SetupError, match="Data is missing"):
            plan_training(str(config), **options)

    # Missing data ends it before the last; the first three are what calls it.
    assert way[2] == "mmquad/engine/command_line.py"
    check_way(way[3:-1], entered(plan))


def test_the_way_of_a_released_file(tmp_path: Path):
    (way,) = listed("A released file, to a checkpoint")
    source = tmp_path / "released.pth"
    torch.save({"model": released_weights()}, source)
    files = entered(lambda: convert_file(source, tmp_path / "converted.pth"))
    check_way(way, files)
    rooms = [path.split("/")[1] for path in files]
    # Nothing that lies below calls back up into the releases.
    assert set(rooms) <= {
        "releases",
        "compat.py",
        "checkpoints",
        "backbones",
        "layers",
        "scans",
        "ops",
    }


def test_the_backbone_of_the_recipe_is_one():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = next(c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Row" in c)
    module: dict[str, Any] = {"__name__": "rowmamba"}
    try:
        exec(compile(dedent(code), "rowmamba.py", "exec"), module)
        model = MODELS.build(
            {"type": "mmquad.RowMamba", "arch": {"dim": 8, "depths": (1, 2, 1, 1)}}
        )
    finally:
        MODELS.module_dict.pop("RowMamba", None)
    outputs = model(torch.randn(1, 3, 65, 97))
    assert [tuple(y.shape[1:]) for y in outputs] == [
        (8, 17, 25),
        (16, 9, 13),
        (32, 5, 7),
        (64, 3, 4),
    ]
    sum((y * torch.randn_like(y)).sum() for y in outputs).backward()
    assert all(p.grad is not None for p in model.parameters())
