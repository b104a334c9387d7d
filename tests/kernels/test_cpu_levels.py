"""Each instruction set's version of the CPU kernels against float64: all are in every build."""

import pytest
import torch
from torch import Tensor

from benchmarks.scan_accuracy import LIMITS, Point, check_point, values
from mmquad.ops import directional_scan
from mmquad.ops.native import native_unavailable
from mmquad.scans import CrossScan

CPU = torch.device("cpu")
VARIABLE = "MMQUAD_CPU_LEVEL"
LEVELS = ["baseline", "avx2", "avx512"]

POINTS = [
    Point("directional_scan", 65, 4, 2, torch.float32),
    Point("directional_scan", 49, 1, 4, torch.bfloat16),
    Point("directional_scan", 63, 2, 1, torch.float16, strided=True),
    Point("selective_scan", 196, 2, 4, torch.float32),
    Point("selective_scan", 64, 16, 1, torch.float32, strided=True),
]

pytestmark = pytest.mark.skipif(bool(native_unavailable()), reason="; ".join(native_unavailable()))


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_right(level: str, point: Point, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level beyond what the processor has runs the best one it has."""
    monkeypatch.setenv(VARIABLE, level)
    (result,) = check_point(point, ["native"], CPU)
    for name, error in result.errors.items():
        assert error <= LIMITS[point.dtype], f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("level", LEVELS)
def test_float64_at_every_level(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, level)
    point = Point("directional_scan", 65, 2, 2, torch.float32)
    actual, expected = (values(point, name, CPU, torch.float64) for name in ("native", "reference"))
    for name, value in actual.items():
        assert (value - expected[name]).norm() <= 1e-12 * expected[name].norm(), name


@pytest.mark.parametrize("ranks", [1, 3, 6, 9, 17, 33])
@pytest.mark.parametrize("level", LEVELS)
def test_any_number_of_ranks(level: str, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and many go different ways in the backward, and so do those that fill no vector."""
    monkeypatch.setenv(VARIABLE, level)
    directions, channels, tables = 4, 37, CrossScan().tables(7, 10, CPU)
    generator = torch.Generator().manual_seed(ranks)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": normal(2, 70, channels),
        "z": normal(2, 70, directions * (ranks + 2)),
        "dt_weight": normal(directions, channels, ranks) * ranks**-0.5,
        "dt_bias": normal(directions, channels) - 2,
        "A": -normal(directions, channels, 1).exp(),
        "D_skip": normal(directions, channels),
    }
    cotangent = normal(2, 70, channels)

    def run(backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
        leaves = {k: v.to(dtype).requires_grad_() for k, v in inputs.items()}
        y = directional_scan(*leaves.values(), tables.order, tables.inverse, backend=backend)
        y.backward(cotangent.to(dtype))
        return {"y": y.detach()} | {k: v.grad for k, v in leaves.items() if v.grad is not None}

    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        mine, expected = run("native", dtype), run("reference", torch.float64)
        for name, value in expected.items():
            assert (mine[name].double() - value).norm() <= limit * value.norm(), name


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="this processor has one level only",
)
def test_the_variable_changes_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fused multiply-adds the last digits differ: the tests above did not run one level."""

    def y(level: str) -> Tensor:
        monkeypatch.setenv(VARIABLE, level)
        return values(POINTS[0], "native", CPU)["y"]

    assert not torch.equal(y("baseline"), y("avx2"))
