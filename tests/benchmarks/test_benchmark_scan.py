"""The layer benchmark compares like with like."""

import contextlib
import dataclasses
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks import memory, scan_layers
from benchmarks.memory import fresh_process
from benchmarks.scan_layers import (
    CPU_CASES,
    LENGTH_CASES,
    MODES,
    LayerCase,
    benchmark_layer,
    bytes_to_move,
    gpu_cases,
    layer_function,
    runnable_backends,
    table,
)
from benchmarks.time_plot import plot_lengths
from benchmarks.timing import measurements
from benchmarks.unfused_layer import unfused, unfused_scan
from mmquad.backbones import LocalVMamba, QuadMamba, VMamba
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.scans import CrossScan, LocalScan, QuadScan, SnakeScan

CPU = torch.device("cpu")
TOOL = Path(__file__).parents[2] / "benchmarks/benchmark_scan.py"
LOCAL = LocalScan(("h", "v_flip", "w2", "w3_flip"))
SMALL = LayerCase("small", CrossScan(), 2, 3, 5, 8, 1, 2)


@pytest.mark.parametrize(
    ("scan", "size", "merge"),
    [
        (CrossScan(), (5, 7), True),
        (QuadScan(), (4, 8), True),
        (QuadScan((1, -1)), (8, 12), True),
        (LOCAL, (5, 7), True),
        (LOCAL, (5, 7), False),
    ],
)
def test_the_unfused_pipeline_is_the_same_layer(scan, size: tuple, merge: bool) -> None:
    torch.manual_seed(0)
    ssm = SelectiveSSM(8, 2, 3, scan.directions)
    with torch.no_grad():
        for parameter in ssm.parameters():  # no two directions or channels alike
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(3, *size, 8, requires_grad=True)
    tables = list(scan.tables(*size, CPU)[:2])
    weight = None
    leaves = [x, *ssm.parameters()]
    if isinstance(scan, QuadScan):
        weight = F.one_hot(torch.tensor([0, 3, 1]), 4).float().requires_grad_()
        tables += [scan.tables(*size, CPU).window, weight]
        leaves.append(weight)
    fused = ssm.scan_tokens(x.flatten(1, 2), *tables, merge=merge)
    results = []
    for y in (unfused_scan(ssm, x, scan, weight, merge), fused):
        y = y.reshape(fused.shape)
        results.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).norm() <= 2e-5 * theirs.norm()


@pytest.mark.parametrize(
    "model",
    [
        QuadMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1}),
        VMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1}),
        LocalVMamba({"dim": 8, "depths": (1,) * 4, "directions": ("h v_flip w2 w7_flip",)}),
    ],
    ids=lambda model: type(model).__name__,
)
def test_unfused_backbones(model: torch.nn.Module) -> None:
    model.eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want = model(image)
        with unfused(model):
            assert "mix" in vars(model.stages[0][0].mixer)
            got = model(image)
    assert "mix" not in vars(model.stages[0][0].mixer)
    for mine, theirs in zip(got, want, strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()


def test_what_has_no_unfused_form() -> None:
    with pytest.raises(ValueError, match="Linear has no ScanMixer"), unfused(torch.nn.Linear(2, 2)):
        pass
    ssm = SelectiveSSM(8, 1, 1, 4)
    with pytest.raises(ValueError, match="no unfused form of SnakeScan"):
        unfused_scan(ssm, torch.randn(1, 2, 2, 8), SnakeScan())
    with pytest.raises(ValueError, match="multiples of 4, got 5x4"):
        unfused_scan(ssm, torch.randn(1, 5, 4, 8), QuadScan(), torch.ones(1, 4))


def test_rows_and_table() -> None:
    rows = benchmark_layer(SMALL, ["chunked", "reference"], repetitions=2)
    assert [row["implementation"] for row in rows] == ["unfused", "chunked", "reference"] * 2
    assert [row["mode"] for row in rows] == [MODES[0]] * 3 + [MODES[1]] * 3
    assert all(row["median_ms"] >= row["best_ms"] > 0 for row in rows)
    assert all(row["speedup"] == 1 for row in rows if row["implementation"] == "unfused")
    for row in rows:
        seconds = bytes_to_move(SMALL, torch.float32, row["mode"]) / (row["copy_gb_per_s"] * 1e9)
        assert row["roofline"] == pytest.approx(1e3 * seconds / row["median_ms"])
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1


def test_one_that_cannot_run_says_why() -> None:
    rows = benchmark_layer(SMALL, ["chunked", "mamba_ssm"], repetitions=1)
    (error,) = {row["error"] for row in rows if row["implementation"] == "mamba_ssm"}
    assert "mamba_ssm" in error
    lines = table(rows).splitlines()
    assert f"cannot run: {error}" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_runnable_backends() -> None:
    names = runnable_backends()
    assert "chunked" in names
    assert "reference" not in names
    assert "mamba_ssm" not in names, "it runs on GPUs only"


def test_without_a_baseline_there_are_no_ratios() -> None:
    def fail() -> None:
        raise RuntimeError("out of memory: tried to allocate\nmuch")

    results = measurements({"a": fail, "b": lambda: None}, 1, CPU, peak=lambda name: 7)
    assert results["a"] == {"error": "out of memory: tried to allocate"}
    assert results["b"]["peak_bytes"] == 7
    assert "speedup" not in results["b"]


def test_bytes_by_hand() -> None:
    # 2 x 15 x 8 elements: read 4 B, write 4 B; backward read dy and x, write dx.
    assert bytes_to_move(SMALL, torch.float32, MODES[0]) == 240 * 8
    assert bytes_to_move(SMALL, torch.float32, MODES[1]) == 240 * 20
    apart = dataclasses.replace(SMALL, merge=False)
    assert bytes_to_move(apart, torch.bfloat16, MODES[0]) == 240 * (2 + 4 * 4)


def _touch(megabytes: int) -> int:
    from benchmarks.memory import peak_bytes

    def use() -> torch.Tensor:
        first = torch.ones(megabytes * 2**18)
        return first + 1

    return peak_bytes(use, CPU)


def test_peak_memory() -> None:
    """Two buffers of 16 MiB; a layer's peak; and as often as one likes."""
    threads = torch.get_num_threads()
    with fresh_process(CPU) as measure:
        assert measure(torch.get_num_threads) == threads
        for _ in range(2):
            assert measure(_touch, 16) == pytest.approx(2 * 16 * 2**20, rel=0.05)
        case = LayerCase("", CrossScan(), 1, 32, 32, 64, 1, 4)
        rows = benchmark_layer(case, ["chunked"], repetitions=1, measure=measure)
    tokens = 4 * 32 * 32 * 64
    for row in rows:
        copies = row["peak_bytes"] / tokens
        assert 5 < copies < 200, "four directions of x at least"
        assert row["memory_ratio"] > 0


def test_all_cases_run() -> None:
    """Every listed layer, cut down to one window of 16 x 16 tokens and few channels."""
    for case in {case.name: case for case in (*CPU_CASES, *LENGTH_CASES, *gpu_cases())}.values():
        assert case.sizes["K"] == case.scan.directions
        tiny = dataclasses.replace(case, batch=1, height=16, width=16, channels=4, ranks=1)
        for implementation in ("unfused", "chunked"):
            layer_function(tiny, implementation, torch.float32, "cpu", MODES[1])()


def test_cases_are_the_models_layers() -> None:
    model = QuadMamba("small")
    mixers = [stage[-1].mixer for stage in model.stages]
    found = [
        (m.ssm.dim, m.ssm.d_state, m.ssm.dt_rank, m.ssm.directions, type(m.scan)) for m in mixers
    ]
    cases = [case for case in CPU_CASES if case.name.startswith("QuadMamba")]
    assert found == [
        (c.channels, c.states, c.ranks, c.scan.directions, type(c.scan)) for c in cases
    ]
    assert [case.height for case in cases] == [56, 28, 14, 7]
    detection = [case for case in gpu_cases() if case.batch == 2 and "small" in case.name]
    assert [(case.height, case.width) for case in detection] == [
        *((200, 336), (100, 168), (50, 84), (25, 42))
    ]


def test_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    cases = (SMALL, dataclasses.replace(SMALL, name="other", scan=LOCAL, merge=False))
    monkeypatch.setattr(scan_layers, "CPU_CASES", cases)
    lengths = tuple(dataclasses.replace(SMALL, height=side) for side in (2, 8))
    monkeypatch.setattr(scan_layers, "LENGTH_CASES", lengths)
    # A process of its own takes seconds to start, and test_peak_memory has one.
    direct = contextlib.nullcontext(lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(memory, "fresh_process", lambda device: direct)
    arguments = ["--device", "cpu", "--backends", "chunked", "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments, "--output", str(tmp_path)])
    runpy.run_path(str(TOOL), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("| other |") == 4
    report = json.loads((tmp_path / "scan.json").read_text())
    assert len(report["rows"]) == 8
    assert all(row["peak_bytes"] is not None for row in report["rows"])
    assert {row["L"] for row in report["lengths"]} == {10, 40}
    with Image.open(tmp_path / "scan.png") as picture:
        assert picture.width > 500

    monkeypatch.setattr(sys, "argv", [str(TOOL), "--device", "cpu", "--layers", "nothing"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "no layer has 'nothing' in its name" in capsys.readouterr().err


def test_plot_leaves_out_what_cannot_run(tmp_path: Path) -> None:
    rows = [
        {"mode": "forward", "implementation": "a", "L": 4, "median_ms": 1.0},
        {"mode": "forward", "implementation": "a", "L": 16, "median_ms": 2.0},
        {"mode": "forward", "implementation": "b", "L": 4, "median_ms": 3.0},
        {"mode": "forward", "implementation": "b", "L": 16, "error": "out of memory"},
    ]
    plot_lengths(rows, tmp_path / "deep/plot.png", "title")
    assert (tmp_path / "deep/plot.png").stat().st_size > 1000
