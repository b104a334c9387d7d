"""The backbone benchmark: rows, breakdown, tables and the tool."""

import contextlib
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import backbones as benchmark
from benchmarks import memory, unfused_layer
from benchmarks.backbones import (
    MODES,
    PARTS,
    BackboneCase,
    breakdown,
    breakdown_table,
    table,
)
from mmquad.backbones import EfficientVMamba, GroupMamba, MambaVision, QuadMamba, SpatialMamba

TOOL = Path(__file__).parents[2] / "benchmarks/benchmark_backbone.py"
CASE = BackboneCase("QuadMamba", "small", 1, 32, 64)
DIRECT = contextlib.nullcontext(lambda function, *arguments: function(*arguments))


def tiny_backbone(arch: str) -> nn.Module:
    """Grids of 8 x 16 and 4 x 8: multiples of 4 in the quadtree stages."""
    assert arch == "small"
    return QuadMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1})


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark._BACKBONES, "QuadMamba", tiny_backbone)


def test_rows_and_table() -> None:
    def measure(function: object, case: BackboneCase, implementation: str, *_: object) -> int:
        assert (function, case) == (benchmark._peak, CASE)
        return {"unfused": 2**22, "chunked": 2**20}[implementation]

    rows = benchmark.benchmark_backbone(CASE, ["chunked"], repetitions=1, measure=measure)
    assert [(row["mode"], row["implementation"]) for row in rows] == [
        (mode, name) for mode in MODES for name in ("unfused", "chunked")
    ]
    for unfused, fused in (rows[:2], rows[2:]):
        assert unfused["speedup"] == unfused["memory_ratio"] == 1
        assert fused["memory_ratio"] == 0.25
        assert fused["speedup"] == unfused["median_ms"] / fused["median_ms"]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1


def test_what_cannot_run_says_why() -> None:
    rows = benchmark.benchmark_backbone(CASE, ["chunked", "mamba_ssm"], repetitions=1)
    assert ["error" in row for row in rows] == [False, False, True] * 2
    lines = table(rows).splitlines()
    assert "cannot run: directional_scan: backend 'mamba_ssm'" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_implementations_agree() -> None:
    step = benchmark._Step(CASE, torch.float32, torch.device("cpu"))
    for mode in MODES:
        step.model.eval()
        torch.manual_seed(0)
        fused = step.function("chunked", mode)()
        torch.manual_seed(0)  # training draws Gumbel noise
        unfused = step.function("unfused", mode)()
        for mine, theirs in zip(fused, unfused, strict=True):
            if theirs is not None:
                assert (mine - theirs).norm() <= 1e-3 * theirs.norm() + 1e-6


def test_breakdown() -> None:
    for mode in MODES:
        spent = breakdown(CASE, "chunked", mode)
        assert tuple(spent) == PARTS
        assert all(spent[part] > 0 for part in PARTS), spent
    lines = breakdown_table({"a": spent, "b": spent}).splitlines()
    assert len(lines) == 2 + len(PARTS) + 1
    assert lines[-1].startswith("| total |")
    assert lines[-1].count("(100%)") == 2


class _Event:
    """A profiled operator with the time of its own and the operators it called."""

    def __init__(self, name: str, own: float, *children: "_Event") -> None:
        self.name, self.self_cpu_time_total, self.cpu_children = name, own, children


def test_operators_count_for_their_caller() -> None:
    """What the scan calls is the scan; autograd's own frames are not a part."""
    scan = _Event(
        "mmquad::directional_scan", 1.0, _Event("aten::mm", 2.0), _Event("aten::exp", 4.0)
    )
    node = _Event("autograd::engine::evaluate_function: MmBackward0", 8.0, _Event("aten::mm", 16.0))
    layer = _Event("aten::linear", 32.0, _Event("aten::clone", 64.0))
    spent = benchmark.Counter()
    for event in (scan, node, layer, _Event("aten::add", 128.0)):
        benchmark._add_up(event, "rest", "cpu", spent)
    assert spent == {"scan": 7.0, "matmul": 16.0 + 96.0, "rest": 8.0 + 128.0}


def test_every_case_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with torch.device("meta"):
        for case in (*benchmark.CPU_CASES, *benchmark.gpu_cases()[:3]):
            assert sum(p.numel() for p in case.build().parameters()) > 1e6


def test_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(benchmark, "CPU_CASES", (CASE,))
    monkeypatch.setattr(memory, "fresh_process", lambda device: DIRECT)
    arguments = ["--device", "cpu", "--backends", "chunked", "mamba_ssm", "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments, "--output", str(tmp_path)])
    runpy.run_path(str(TOOL), run_name="__main__")
    printed = capsys.readouterr().out
    assert "| QuadMamba-small | 1 | 32 x 64 | float32 | training step | chunked |" in printed
    assert "| ms | chunked, inference | chunked, training step |" in printed
    report = json.loads((tmp_path / "backbone.json").read_text())
    assert len(report["rows"]) == 6
    assert [r["implementation"] for r in report["rows"] if "error" in r] == ["mamba_ssm"] * 2
    assert set(report["parts"]["chunked, inference"]) == set(PARTS)

    monkeypatch.setattr(sys, "argv", [str(TOOL), "--device", "cpu", "--models", "nothing"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "no model has 'nothing' in its name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model",
    [
        lambda: SpatialMamba({"dim": 8, "depths": (1, 1)}),
        lambda: EfficientVMamba({"dim": 8, "depths": (1, 1), "d_state": 2}),
        lambda: GroupMamba(
            {"dims": (8, 12), "stem_dim": 4, "depths": (1, 1), "mlp_ratios": (2, 2)}
        ),
        lambda: MambaVision(
            {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2), "num_heads": (2,), "window": (3,)}
        ),
    ],
    ids=["spatialmamba", "efficientvmamba", "groupmamba", "mambavision"],
)
def test_mixers_of_their_own_are_unfused_too(model):
    torch.manual_seed(0)
    built = model().double().eval()
    for parameter in built.parameters():  # off initial values that hide a part
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    image = torch.randn(2, 3, 50, 71, dtype=torch.float64)
    fused = built(image)
    with unfused_layer.unfused(built):
        published = built(image)
    assert not torch.equal(fused[-1], published[-1]), "nothing was unfused"
    for mine, theirs in zip(fused, published, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)  # scans there are float32
    assert all(torch.equal(a, b) for a, b in zip(built(image), fused, strict=True))
