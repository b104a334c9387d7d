"""The direction search: its log, resumption, the choice, and the config it exports."""

import copy
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from mmquad.analysis.pictures.direction_search import draw_direction_search
from mmquad.backbones import LocalVim, LocalVMamba
from mmquad.hooks import DirectionLogHook
from mmquad.registry import MODELS
from mmquad.search import (
    DirectionLog,
    read_direction_log,
    search_layers,
    top_directions,
    write_searched_config,
)

ROOT = Path(__file__).parents[2]
NAMES = ("h", "h_flip", "v", "w2")
ARCH = {"dim": 8, "depth": 2, "grid": (2, 2), "directions": (" ".join(NAMES),), "search": True}


class Classifier(BaseModel):
    """A search network with a loss that needs no data set."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = LocalVim(ARCH)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": (self.backbone(inputs)[0] * inputs.mean()).sum()}


def run(work_dir: Path, max_iters: int, resume: bool = False) -> Runner:
    torch.manual_seed(0)
    data = [{"inputs": torch.randn(3, 32, 32)} for _ in range(4)]
    runner = Runner(
        Classifier(),
        str(work_dir),
        train_dataloader={
            "batch_size": 2,
            "collate_fn": {"type": "default_collate"},
            "dataset": data,
            "sampler": {"type": "InfiniteSampler", "shuffle": False},
        },
        train_cfg={"by_epoch": False, "max_iters": max_iters},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 4, "by_epoch": False}},
        custom_hooks=[{"type": "mmquad.DirectionLogHook", "interval": 2}],
        experiment_name=f"search_{max_iters}_{resume}",
        default_scope="mmengine",
        resume=resume,
    )
    runner.train()
    return runner


def alphas(model: torch.nn.Module) -> np.ndarray:
    return np.stack([layer.alpha.detach().numpy() for layer in search_layers(model)])


def test_hook_logs_every_interval_and_resumes(tmp_path: Path) -> None:
    runner = run(tmp_path, 5)
    log = read_direction_log(tmp_path)
    assert log.iterations.tolist() == [0, 2, 4, 5]
    assert log.directions == NAMES
    assert log.alpha.shape == (4, 2, 4)
    np.testing.assert_allclose(log.alpha[-1], alphas(runner.model), atol=1e-6)
    assert np.abs(log.alpha[-1] - log.alpha[0]).min() > 1e-3, "every weight is trained"

    # Killed after the checkpoint of iteration 4, in the middle of writing a record.
    for old in tmp_path.glob("iter_5*"):
        old.unlink()
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_4.pth"))
    with (tmp_path / "directions.jsonl").open("a") as file:
        file.write('{"iteration": 6, "dire')
    run(tmp_path, 8, resume=True)
    resumed = read_direction_log(tmp_path)
    assert resumed.iterations.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_array_equal(resumed.alpha[:3], log.alpha[:3])


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    (tmp_path / "directions.jsonl").write_text("of another search\n")
    run(tmp_path, 2)
    assert read_direction_log(tmp_path).iterations.tolist() == [0, 2]


def test_hook_needs_a_search_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LocalVMamba without any: its backbone needs search=True"):
        search_layers(
            LocalVMamba({"dim": 8, "depths": (1,), "directions": "h v"}, out_indices=(0,))
        )
    with pytest.raises(ValueError, match="interval must be at least 1, got 0"):
        DirectionLogHook(0)


def example() -> DirectionLog:
    alpha = np.zeros((3, 7, 4))
    alpha[1:] = np.random.default_rng(0).normal(size=(2, 7, 4))
    alpha[2, 0] = [0.3, 0.1, -0.2, 0.2]
    alpha[2, 1] = [0.0, 0.0, 0.0, 0.0]
    return DirectionLog(np.array([0, 10, 20]), NAMES, alpha)


def test_top_directions_in_the_order_of_the_candidates() -> None:
    assert top_directions(example(), 2)[:2] == ["h w2", "h h_flip"]
    assert top_directions(example(), 4) == [" ".join(NAMES)] * 7
    with pytest.raises(ValueError, match=r"count must be in \[1, 4\], got 5"):
        top_directions(example(), 5)


def test_probabilities() -> None:
    found = example().probability
    np.testing.assert_allclose(found.sum(-1), 1)
    np.testing.assert_allclose(found[0], 0.25)
    ratio = found[2, 0, 0] / found[2, 0, 2]
    assert ratio == pytest.approx(np.exp(0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "records of one search network"),
        ("nonsense\n", r"directions\.jsonl:1: 'nonsense'"),
        ('{"iteration": 1}\n', "iteration, directions and alpha"),
    ],
)
def test_unusable_logs(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the log of a search"):
        read_direction_log(tmp_path)
    (tmp_path / "directions.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_direction_log(tmp_path)


def write_log(path: Path, layers: int) -> None:
    names = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip"]
    rows = np.random.default_rng(0).normal(size=(2, layers, 8)).tolist()
    lines = [
        json.dumps({"iteration": 10 * t, "directions": names, "alpha": rows[t]}) for t in range(2)
    ]
    path.write_text("\n".join(lines) + "\n")


def test_tool_exports_a_config_that_builds(tmp_path: Path, monkeypatch, capsys) -> None:
    write_log(tmp_path / "directions.jsonl", 5)
    base = ROOT / "configs" / "mmpretrain" / "localmamba" / "localvmamba-demo_shapes.py"
    out, picture = tmp_path / "found" / "model.py", tmp_path / "found.png"
    arguments = [str(tmp_path), str(base), "--out", str(out), "--picture", str(picture)]
    monkeypatch.setattr(sys, "argv", ["export_directions.py", *arguments])
    runpy.run_path(str(ROOT / "tools" / "misc" / "export_directions.py"), run_name="__main__")
    directions = top_directions(read_direction_log(tmp_path))
    assert all(line in capsys.readouterr().out for line in directions[:1])

    cfg = Config.fromfile(out)
    assert cfg.model.backbone.directions == directions
    assert "iteration 10" in out.read_text().splitlines()[2]
    backbone = copy.deepcopy(cfg.model.backbone)
    model = MODELS.build(backbone)
    assert model.settings()["directions"] == directions
    assert picture.stat().st_size < 100_000


def test_exported_config_is_tidy(tmp_path: Path) -> None:
    found, base = tmp_path / "found" / "deeper" / "a.py", tmp_path / "configs" / "b.py"
    path = write_searched_config(found, base, ["h v", "w2 w7"], "a test")
    assert path.read_text() == (
        '"""b, with searched directions.\n\nFound by a test.\n"""\n\n'
        '_base_ = "../../configs/b.py"\n\n'
        "model = dict(\n    backbone=dict(\n        directions=[\n"
        '            "h v",\n            "w2 w7",\n        ],\n    ),\n)\n'
    )


def test_exported_config_finds_its_base_from_a_linked_folder(tmp_path: Path) -> None:
    """Work dirs often lie on another disk."""
    base = tmp_path / "configs" / "b.py"
    disk = tmp_path / "far" / "away" / "disk"
    for folder in (base.parent, disk):
        folder.mkdir(parents=True)
    base.write_text("model = dict(backbone=dict(depth=1))\n")
    link = tmp_path / "work dirs"
    link.symlink_to(disk)
    for into, original in ((link, base), (disk, base), (tmp_path, link / "c.py")):
        original.write_text(base.read_text())
        path = write_searched_config(into / "a.py", original, ["h v"], "a test")
        backbone = Config.fromfile(path).model.backbone
        assert backbone == {"depth": 1, "directions": ["h v"]}


def test_picture_has_a_panel_per_layer(tmp_path: Path) -> None:
    path = draw_direction_search(example(), tmp_path / "a.png", count=2, title="seven layers")
    assert path.read_bytes().startswith(b"\x89PNG")
    single = DirectionLog(np.array([5]), NAMES, np.zeros((1, 1, 4)))
    draw_direction_search(single, tmp_path / "b.png")
