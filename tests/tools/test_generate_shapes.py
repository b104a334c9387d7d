import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "dataset_tools" / "generate_shapes.py"


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [TOOL.name, *arguments])
    runpy.run_path(str(TOOL), run_name="__main__")


def test_the_tool_generates_and_overwrites_only_on_demand(tmp_path, monkeypatch, capsys):
    root = tmp_path / "shapes"
    arguments = ("--root", str(root), "--num-train", "2", "--num-val", "1")
    run(monkeypatch, *arguments)
    assert capsys.readouterr().out == f"{root}: 2 training and 1 validation images\n"
    before = (root / "shapes.json").read_text()

    with pytest.raises(SystemExit, match=r"Nothing was generated: .*seed: 0 -> 5"):
        run(monkeypatch, *arguments, "--seed", "5")
    assert (root / "shapes.json").read_text() == before
    run(monkeypatch, *arguments, "--seed", "5", "--overwrite")
    assert '"seed": 5' in (root / "shapes.json").read_text()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ade20k", "annotations/validation/ADE_val_00000004.png"),
        ("imagenet", "val/star/00000004.JPEG"),
    ],
)
def test_other_formats(name, file, tmp_path, monkeypatch):
    numbers = ("--num-train", "4", "--num-val", "4")
    run(monkeypatch, "--format", name, "--root", str(tmp_path / name), *numbers)
    assert (tmp_path / name / file).is_file()
