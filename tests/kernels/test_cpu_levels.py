"""Each instruction set's version of the CPU kernels against float64: all are in every build."""

import pytest
import torch
from torch import Tensor

from benchmarks.scan_accuracy import LIMITS, Point, check_point, values
from mmquad.ops.native import native_unavailable

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
