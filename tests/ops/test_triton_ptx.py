"""What Triton's compiler makes of the kernels, run on the host instruction by instruction.

Beyond test_triton_interpreter.py: the code for compute capability 9.0 as it is compiled, and every
access to memory checked: out of bounds, misaligned, or racing with another thread
or program. How ``ex2.approx`` rounds is a device's secret: here, to nearest.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import scan_accuracy
from benchmarks.ptx.arithmetic import exp2_rounded
from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import Memory
from benchmarks.ptx.program import Kernel, parse
from benchmarks.scan_accuracy import LIMITS, Point, Result, check_point
from benchmarks.triton_variants import handing_over
from mmquad.ops.triton import interpreting

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(interpreting(), reason="kernels are interpreted in this process"),
]

CPU = torch.device("cpu")
FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16


class Device:
    """Runs what would be launched, and remembers which kernels that were."""

    def __init__(self) -> None:
        self.exp2: Callable[[np.ndarray], np.ndarray] = exp2_rounded
        self.launched: set[str] = set()
        self._kernels: dict[str, Kernel] = {}
        self._count = itertools.count()

    def run(self, compiled: Any, function: Any, options: dict[str, Any]) -> None:
        if compiled.hash not in self._kernels:
            self._kernels[compiled.hash] = parse(compiled.asm["ptx"])[compiled.metadata.name]
        kernel = self._kernels[compiled.hash]
        self.launched.add(kernel.name)
        memory = Memory()
        # The compiler appends two pointers to scratch memory that no kernel here asks for.
        values = [options[p.name] for p in function.params if not p.is_constexpr] + [0, 0]
        parameters = []
        for value, width in zip(values, kernel.widths, strict=True):
            if isinstance(value, torch.Tensor):
                memory.add(value)
                value = value.data_ptr()
            parameters.append(int(value).to_bytes(width, "little", signed=True))
        threads, shared = 32 * compiled.metadata.num_warps, compiled.metadata.shared
        count = next(self._count)
        launch = Launch(
            kernel, options["grid"], threads, shared, parameters, memory, count, self.exp2
        )
        launch.run()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    pytest.importorskip("triton", minversion="3.3")  # torch 2.6 brings 3.2
    for backends in scan_accuracy.OPS.values():
        backend = dataclasses.replace(
            backends["triton"], unavailable=list, unsupported=lambda **inputs: []
        )
        monkeypatch.setitem(backends._by_name, "triton", backend)
    device = Device()
    with handing_over("sm_90", device.run):
        yield device


def assert_accurate(results: list[Result]) -> None:
    for result in results:
        for name, error in result.errors.items():
            assert error <= LIMITS[result.point.dtype], (name, error, result)


# One token, several blocks of channels, windows, gaps in memory; 300 tokens are five chunks.
POINTS = [
    Point("directional_scan", 1, 16, 2, FLOAT32),
    Point("directional_scan", 65, 2, 4, BFLOAT16, strided=True),
    Point("directional_scan", 300, 1, 2, FLOAT16),
    Point("directional_scan", 300, 1, 1, FLOAT32),
    Point("selective_scan", 2, 4, 1, FLOAT16, strided=True),
    Point("selective_scan", 300, 1, 1, FLOAT32),
]


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_equals_the_reference(
    point: Point, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scan_accuracy.SHAPES, 300, (15, 20))
    assert_accurate(check_point(point, ["triton"], CPU))
    between = {"chunk_ends", "combine_chunks"} if point.length > 256 else set()
    project = {"project_to_ranks", "project_to_weights"} if "dir" in point.op else set()
    assert device.launched == {"outputs", "gradients"} | between | project


@pytest.mark.parametrize("raw_step", [0.0, 20.0, 100.0])
@pytest.mark.parametrize("bias", [-1, 1], ids=["low", "high"])
def test_the_largest_error_of_a_gpus_exp2(raw_step: float, bias: int, device: Device) -> None:
    """NVIDIA documents 2^-22 for ``ex2.approx``; here it is always that, where states live long."""

    def exp2(x: np.ndarray) -> np.ndarray:
        return np.where(x == 0, np.float32(1), exp2_rounded(x) * np.float32(1 + bias * 2.0**-22))

    device.exp2 = exp2
    point = Point("directional_scan", 65, 1, 2, FLOAT32, raw_step, -1e-4)
    assert_accurate(check_point(point, ["triton"], CPU))
