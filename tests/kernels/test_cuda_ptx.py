"""What nvcc makes of the CUDA kernels, run on the host instruction by instruction.

Beyond test_cuda_emulated.py, which runs their source: the code that a device gets, with its own
mathematical functions, and every access to memory checked: out of bounds,
misaligned, or racing with another thread. How ``ex2.approx`` rounds is a device's secret.
"""

import ctypes
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SOURCES
from cuda_cases import CASES, TOLERANCE, Case, assert_close, make, run

from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import DeviceError, Memory
from benchmarks.ptx.program import Kernel, parse
from mmquad.ops.directional_scan import cuda

pytestmark = pytest.mark.slow

RUNNER = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int64),
    ctypes.POINTER(ctypes.c_void_p),
)


@pytest.fixture(scope="module")
def kernels(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    """Every kernel, compiled for compute capability 9.0."""
    target = tmp_path_factory.mktemp("ptx") / "launch.ptx"
    command = [nvcc, "-std=c++17", "-O3", "-arch=compute_90", "-ptx", SOURCES / "launch.cu"]
    subprocess.run([*command, "-o", target], check=True)
    return parse(target.read_text())


class Device:
    """Stands for the ops: what they launch runs in the emulation, on the tensors they are given."""

    def __init__(self, library: Path, ops: Any, kernels: dict[str, Kernel]) -> None:
        self.launched: set[str] = set()
        self._ops, self.kernels = ops, dict(kernels)
        self._memory = Memory()
        self.failure: Exception | None = None
        self._count = itertools.count()
        self._runner = RUNNER(self._run)
        self._set_runner = ctypes.CDLL(str(library)).mmquad_emulation_run_by

    def __enter__(self) -> "Device":
        self._set_runner(self._runner)
        return self

    def __exit__(self, *_: object) -> None:
        self._set_runner(None)

    def __getattr__(self, name: str) -> Any:
        def op(*arguments: Any, **named: Any) -> None:
            self._memory = Memory()
            for value in (*arguments, *named.values()):
                if isinstance(value, torch.Tensor):
                    self._memory.add(value)
            getattr(self._ops, name)(*arguments, **named)
            if self.failure is not None:
                raise self.failure

        return op

    def _run(self, name: bytes, blocks: int, threads: int, shared: int, arguments: Any) -> None:
        if self.failure is not None:
            return
        try:  # an exception cannot pass through the compiled caller
            kernel = self.kernels[name.decode()]
            self.launched.add(kernel.name)
            values = [
                ctypes.string_at(arguments[i], width) for i, width in enumerate(kernel.widths)
            ]
            count = next(self._count)
            Launch(kernel, [blocks], threads, shared, values, self._memory, count).run()
        except Exception as error:
            self.failure = error


@pytest.fixture
def device(
    emulated_library: Path,
    emulated_ops,
    kernels: dict,
    cuda_on_cpu,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Device]:
    with Device(emulated_library, emulated_ops, kernels) as device:
        monkeypatch.setattr(cuda, "_ops", lambda: device)
        yield device


# In one segment, too: with windows, and with more states than few.
CALLS = [*((case, False) for case in CASES), (CASES[2], True), (CASES[5], True)]


@pytest.mark.parametrize(("case", "one_segment"), CALLS, ids=str)
def test_equals_the_reference(
    case: Case, one_segment: bool, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if one_segment:
        monkeypatch.setattr(cuda, "THREADS", 1)
    dtype = torch.float16 if case.windows else torch.float32
    sample = make(case, dtype)
    actual = run(sample, case, "cuda")
    assert_close(actual, run(sample, case, "reference", wide=True), TOLERANCE[dtype])
    # Forward and backward; between segments also the local phase of both and their combination.
    segments = one_segment or case.length + case.empty <= cuda.CHUNK
    assert len(device.launched) == (2 if segments else 5)


@pytest.mark.parametrize("kernel", ["local_kernel", "forward_kernel", "backward_kernel"])
def test_every_barrier_is_needed(
    kernel: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, threads race: proof that races would be found."""
    monkeypatch.setattr(cuda, "THREADS", 80)  # two chunks to a segment
    case = Case(1, 130, 40, 1, 1, 2, windows=False)
    name = next(name for name in device.kernels if f"{kernel}ILi1E" in name)
    code = device.kernels[name].code
    for place in [n for n, instruction in enumerate(code) if instruction.opcode == "bar"]:
        nothing = code[place]._replace(opcode="mov", modifiers=("pred",), operands=("%none", "1"))
        changed = [*code[:place], nothing, *code[place + 1 :]]
        device.kernels[name] = device.kernels[name]._replace(code=changed)
        device.failure = None
        with pytest.raises(DeviceError, match="race"):
            run(make(case, torch.float32), case, "cuda")
    assert name in device.launched
