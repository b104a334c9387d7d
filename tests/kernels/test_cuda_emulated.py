"""The CUDA kernels' own source, run on the host thread by thread, against the reference.

This proves the equations, the indices and the barriers' places. It says nothing about a device: its
memory model, its rounding of exp2, its speed.
"""

import functools
import sys
from collections.abc import Callable

import pytest
import torch
from cuda_cases import CASES, TOLERANCE, Case, assert_close, make, run

from mmquad.ops import directional_scan
from mmquad.ops.directional_scan import cuda


@pytest.fixture(autouse=True)
def emulated(emulated_ops, cuda_on_cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ops of the backend replaced."""
    monkeypatch.setattr(cuda, "_ops", lambda: emulated_ops)
    # Memory that nobody wrote is NaN.
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@functools.cache
def expected_of(case: Case, dtype: torch.dtype) -> dict:
    return run(make(case, dtype), case, "reference", wide=True)


# One segment for all positions; some chunks to a segment; a segment for every chunk.
DIVISIONS = [
    pytest.param(case, threads, id=f"{case}-{name}")
    for case in CASES
    for name, threads in {"one": 1, "some": 150, "all": cuda.THREADS}.items()
    if name == "all" or case.length + case.empty > cuda.CHUNK
]


@pytest.mark.parametrize(("case", "threads"), DIVISIONS)
def test_equals_the_reference(case: Case, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "THREADS", threads)
    actual = run(make(case, torch.float32), case, "cuda")
    assert_close(actual, expected_of(case, torch.float32), TOLERANCE[torch.float32])


@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=str)
def test_tables_of_both_widths(case: Case) -> None:
    sample = make(case, torch.float32)
    runs = []
    for dtype in (torch.int32, torch.int64):
        tables = {name: table.to(dtype) for name, table in sample.tables.items()}
        runs.append(run(sample._replace(tables=tables), case, "cuda"))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=str)
def test_narrow_tokens(case: Case, dtype: torch.dtype) -> None:
    actual = run(make(case, dtype), case, "cuda")
    assert actual["y"].dtype == torch.float32
    assert actual["x"].dtype == actual["z"].dtype == dtype
    assert_close(actual, expected_of(case, dtype), TOLERANCE[dtype])


def test_all_float16_numbers_are_widened_exactly() -> None:
    """A scan that only skips: y = x."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    x = x[x.isfinite()].view(1, -1, 32)
    zeros = torch.zeros(1, 32, 1)
    positions = torch.arange(x.shape[1])[None, None]
    z, ones = torch.zeros(1, x.shape[1], 3), torch.ones(1, 32)
    y = directional_scan(
        x, z, zeros, zeros[..., 0], zeros, ones, positions, positions, backend="cuda"
    )
    assert torch.equal(y, x.float())


@pytest.mark.parametrize("case", [CASES[5], CASES[6], CASES[8]], ids=str)
def test_result_does_not_depend_on_the_order_of_threads(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would if a barrier were missing, or a sum taken by whoever comes first."""
    sample = make(case, torch.float32)
    runs = []
    for order in ("forwards", "reversed"):
        monkeypatch.setenv("MMQUAD_EMULATED_ORDER", order)
        runs.append(run(sample, case, "cuda"))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("decay", [-1e-4, -1e3])
@pytest.mark.parametrize("bias", [-30.0, 0.0, 20.0, 100.0])
def test_extreme_steps_and_decays(bias: float, decay: float) -> None:
    case = Case(1, 68, 3, 2, 1, 1)
    sample = make(case, torch.float32)
    sample.leaves["dt_bias"].fill_(bias)
    sample.leaves["dt_weight"].mul_(0.01)
    sample.leaves["A"].fill_(decay)
    actual = run(sample, case, "cuda")
    for name, expected in run(sample, case, "reference", wide=True).items():
        assert actual[name].isfinite().all(), name
        # Where every gradient underflows float32, nothing is left to compare.
        scale = expected.norm().clamp(min=1e-30)
        assert (actual[name].double() - expected).norm() <= 1e-4 * scale + 1e-6, name


def test_nothing_to_compute_launches_nothing() -> None:
    case = CASES[1]._replace(batch=0)
    actual = run(make(case, torch.float32), case, "cuda")
    assert actual["y"].shape == (0, 49, 33)
    assert actual["A"].eq(0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "z": a["z"][..., 1:].contiguous()}, "z has a wrong shape"),
        (lambda a: {**a, "x": a["x"].double()}, "x must be float32, float16 or bfloat16"),
        (lambda a: {**a, "order": a["order"].long()}, "order has a wrong"),
        (lambda a: {**a, "width": 48}, "wrong width or span"),
        (lambda a: {**a, "carry": a["carry"][:, :1]}, "carry has a wrong shape"),
        (lambda a: {**a, "states": 17}, "takes up to 16 states"),
    ],
)
def test_the_op_checks_what_it_is_given(emulated_ops, change: Callable, message: str) -> None:
    batch, length, channels, k = 2, 9, 5, 2
    arguments = {
        "x": torch.zeros(batch, length, channels),
        "z": torch.zeros(batch, length, k * 4),
        "parameters": torch.zeros(k, 5, channels),
        "order": torch.arange(length, dtype=torch.int32).repeat(1, k, 1),
        "states": 1,
        "width": 32,
        "span": 1,
        "merge": True,
        "y": torch.empty(batch, length, channels),
        "saved": torch.empty(0),
        "carry": torch.empty(batch, k, 1, 1, channels),
        "decay": torch.empty(batch, k, 1, channels),
    }
    emulated_ops.directional_scan_cuda(**arguments)
    with pytest.raises(RuntimeError, match=message):
        emulated_ops.directional_scan_cuda(**change(arguments))


def test_reasons_against_inputs() -> None:
    x, A = torch.zeros(1, 2, 3, dtype=torch.float64), torch.zeros(1, 3, 17)
    reasons = cuda.cuda_unsupported(x=x, dt_weight=torch.zeros(1, 3, 300), A=A)
    assert reasons == [
        "runs on cuda, x is on cpu",
        "takes float32, float16 and bfloat16, x is torch.float64",
        "takes up to 16 states, got N=17",
        "takes R + 2 N up to 256, got 334",
    ]


def test_reasons_against_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert len(cuda.cuda_unavailable()) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert cuda.cuda_unavailable() == [
        "needs compute capability 8.0 or later, this GPU has 7.5",
    ]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(cuda, "native_unavailable", list)
    package = tmp_path / "mmquad_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "without_cuda.txt").write_text("no CUDA toolkit\n")
    for name in ("mmquad_kernels", "mmquad_kernels._cuda"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    cuda._import_problem.cache_clear()
    (reason,) = cuda.cuda_unavailable()
    cuda._import_problem.cache_clear()
    assert reason.startswith("mmquad_kernels was built without CUDA (no CUDA toolkit): pip install")
