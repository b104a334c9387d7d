"""Every backend of the fused op on a GPU, against the reference in float64 on the CPU."""

import functools

import pytest
import torch
from cuda_cases import CASES, TOLERANCE, Case, assert_close, make, run

from mmquad.ops.directional_scan import BACKENDS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

COMPILED = ("cuda", "triton")

every_backend = pytest.mark.parametrize("backend", BACKENDS.names)
compiled_backend = pytest.mark.parametrize(
    "backend", [name for name in BACKENDS.names if name in COMPILED]
)


def skip_if_unable(backend: str, case: Case, dtype: torch.dtype) -> None:
    sample = make(case, dtype)
    inputs = {name: sample.leaves[name].cuda() for name in ("x", "z", "dt_weight", "A")}
    found = BACKENDS[backend]
    reasons = found.unavailable() or found.unsupported(
        **inputs, order=sample.tables["order"].cuda(), merge=case.merge
    )
    if reasons:
        pytest.skip("; ".join(reasons))


@functools.cache
def expected_of(case: Case, dtype: torch.dtype) -> dict:
    return run(make(case, dtype), case, "reference", wide=True)


@pytest.mark.parametrize("backend", [b.name for b in BACKENDS if b.name not in COMPILED])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_pytorch_and_packages(case: Case, backend: str) -> None:
    skip_if_unable(backend, case, torch.float32)
    actual = run(make(case, torch.float32), case, backend, "cuda")
    assert_close(actual, expected_of(case, torch.float32), TOLERANCE[torch.float32])


@compiled_backend
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_kernels(case: Case, backend: str) -> None:
    """What benchmarks/check_gpu.sh runs under compute-sanitizer: every case in every precision."""
    for dtype in TOLERANCE:
        skip_if_unable(backend, case, dtype)
        actual = run(make(case, dtype), case, backend, "cuda")
        assert_close(actual, expected_of(case, dtype), TOLERANCE[dtype])


@every_backend
@pytest.mark.parametrize("case", [CASES[5], CASES[6], CASES[8]], ids=str)
def test_twenty_runs_agree_bit_for_bit(case: Case, backend: str) -> None:
    skip_if_unable(backend, case, torch.float32)
    sample = make(case, torch.float32)
    runs = [run(sample, case, backend, "cuda") for _ in range(20)]
    for other in runs[1:]:
        assert all(torch.equal(other[name], runs[0][name]) for name in other)


@compiled_backend
def test_another_stream(backend: str) -> None:
    """The kernels must wait for what PyTorch's current stream still computes."""
    case = CASES[5]
    skip_if_unable(backend, case, torch.float32)
    sample = make(case, torch.float32)
    expected = run(sample, case, backend, "cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10_000_000)
        actual = run(sample, case, backend, "cuda")
    assert all(torch.equal(actual[name], expected[name]) for name in actual)


@compiled_backend
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 16_800, 64, 2, 1, 6, windows=True),
        Case(1, 100_000, 8, 1, 1, 1),
        Case(1, 4_200, 96, 4, 16, 6),
    ],
    ids=str,
)
def test_long_sequences(case: Case, backend: str) -> None:
    skip_if_unable(backend, case, torch.float32)
    sample = make(case, torch.float32)
    actual = run(sample, case, backend, "cuda")
    assert_close(actual, run(sample, case, "chunked", wide=True), 1e-4)
