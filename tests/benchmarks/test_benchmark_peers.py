"""The benchmark beside other people's backbones."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.peers import BASELINE, MODES, PEERS, build, measure_peers, peers_table


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.conv(image),)


class Failing(Small):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        raise RuntimeError("as compilers do")


TOOL = Path(__file__).parents[2] / "benchmarks/benchmark_peers.py"


def test_names():
    assert BASELINE in PEERS
    maps = build("ResNet-18")(torch.randn(2, 3, 64, 64))
    assert [y.shape[1] for y in maps] == [64, 128, 256, 512]
    assert len(build("PVT-T")(torch.randn(1, 3, 64, 64))) == 4
    with pytest.raises(KeyError, match="no backbone called 'Swin-X'"):
        build("Swin-X")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_runs(mode: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "build", lambda name: Failing() if name == "fails" else Small())
    times = measure_peers(["one", "fails", "other"], mode, 1, 32, 1)
    assert set(times) == {"one", "fails", "other"}
    assert math.isnan(times["fails"])
    assert all(0 < times[name] < 60_000 for name in ("one", "other"))


def test_table_and_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    results = {("float32", 1): {"Swin-T": 100.0, "QuadMamba tiny": 50.0, "Vim tiny": math.nan}}
    assert peers_table(results).splitlines() == [
        "| | float32, B = 1 |",
        "|---|---|",
        "| Swin-T | 100 ms |",
        "| QuadMamba tiny | 0.50 (50 ms) |",
        "| Vim tiny | fails |",
    ]
    monkeypatch.setattr(peers, "measure_peers", lambda *_: {"Swin-T": 100.0, "Vim tiny": 20.0})
    arguments = ["--output", str(tmp_path), "--batches", "2", "--modes", "float32"]
    monkeypatch.setattr(sys, "argv", [TOOL.name, *arguments])
    runpy.run_path(str(TOOL), run_name="__main__")
    assert "| Vim tiny | 0.20 (20 ms) |" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "peers.json").read_text())
    assert row == {"mode": "float32", "batch": 2, "ms": {"Swin-T": 100.0, "Vim tiny": 20.0}}
    monkeypatch.setattr(sys, "argv", [TOOL.name, "--zoo", str(tmp_path / "times.json")])
    runpy.run_path(str(TOOL), run_name="__main__")
    times = json.loads((tmp_path / "times.json").read_text())
    assert set(times["ms"]) == {"224", "512"}
    assert {"date", "machine", "torch"} < set(times)
