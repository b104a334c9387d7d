"""The Triton backends of both scans: on a GPU where there is one, else in Triton's interpreter.

The interpreter must be asked for before Triton is imported, so that in a run without a GPU these
tests are skipped here and executed by test_triton_interpreter.py in a process of their own. It
takes tens of milliseconds per token; the shapes are the smallest that reach every path. Chunks of 8
tokens make several chunks of few.
"""

import pytest
import torch
from test_directional_scan import (
    TOLERANCE,
    Case,
    Sample,
    assert_close,
    expected_of,
    forward_backward,
    make,
    on,
    parts,
    uninitialised_memory_is_nan,
)
from test_directional_scan_positions import (
    Tables,
    hand_made,
    position_by_position,
    random_tables,
    run,
    upstream_of,
)
from test_directional_scan_positions import make as make_positions
from test_selective_scan import check, equations, make_inputs
from test_tokens import random_windows
from torch import Tensor

from mmquad.ops import directional_scan, selective_scan
from mmquad.ops.directional_scan import BACKENDS
from mmquad.ops.selective_scan import BACKENDS as SELECTIVE_BACKENDS
from mmquad.ops.selective_scan import selective_scan_reference, triton_launch
from mmquad.ops.triton import interpreting, triton_unavailable

pytestmark = pytest.mark.skipif(
    bool(triton_unavailable()), reason="; ".join(triton_unavailable()) or "runs"
)

INTERPRETED = interpreting()
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
on_gpu_only = pytest.mark.skipif(INTERPRETED, reason="too many tokens for the interpreter")

# Batch, height, width, channels, directions, states, ranks, windows.
CASES = [
    (Case(1, 1, 1, 1, 1, 1, 1, False), FLOAT32),
    (Case(2, 1, 5, 33, 4, 1, 3, False), FLOAT32),
    (Case(1, 1, 3, 70, 1, 16, 17, False), BFLOAT16),
    (Case(1, 2, 3, 5, 2, 2, 2, False), FLOAT16),
]
LARGE_CASES = [
    Case(2, 7, 7, 33, 4, 1, 3, False),
    Case(1, 8, 8, 70, 2, 8, 5, False),
    Case(2, 5, 53, 96, 2, 1, 3, True),
    Case(5, 14, 14, 12, 2, 4, 1, True),
    Case(1, 30, 13, 40, 2, 16, 2, True),
    Case(9, 3, 2, 300, 4, 2, 20, False),
    Case(1, 56, 56, 32, 2, 1, 2, True),
]


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "ONE_CHUNK", 0)
    monkeypatch.setattr(triton_launch, "CHUNK", 8)


def moved(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(DEVICE) for name, value in values.items()}


def results_of(sample: Sample) -> dict[str, Tensor]:
    """Output and gradients, on the CPU."""
    there = Sample(moved(sample.leaves), moved(sample.tables), sample.upstream.to(DEVICE))
    return {name: v.cpu() for name, v in forward_backward(on("triton"), there).items()}


def check_case(case: Case, dtype: torch.dtype) -> None:
    sample = make(case, dtype)
    with uninitialised_memory_is_nan():
        actual = results_of(sample)
    assert actual["y"].dtype == FLOAT32
    for name, leaf in sample.leaves.items():
        assert (actual[name].dtype, actual[name].shape) == (leaf.dtype, leaf.shape), name
    assert_close(actual, expected_of(case, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=str)
def test_equals_its_parts(case: Case, dtype: torch.dtype) -> None:
    check_case(case, dtype)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 9, 3, 1, 2, 2, False),
        Case(1, 2, 4, 70, 2, 1, 1, False),
    ],
    ids=["border", "full"],
)
def test_several_chunks(case: Case) -> None:
    check_case(case, FLOAT32)


def windowed(dtype: torch.dtype) -> Sample:
    """Two samples of twelve tokens, in orders that differ inside every window."""
    sample = make(Case(2, 3, 4, 6, 2, 1, 2, False), dtype)
    torch.manual_seed(0)
    tables = random_windows(directions=2)
    weight = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    named = dict(zip(("order", "inverse", "window"), tables, strict=True))
    return Sample(sample.leaves | {"weight": weight}, named, sample.upstream)


def check_windowed(dtype: torch.dtype) -> None:
    sample = windowed(dtype)
    with uninitialised_memory_is_nan():
        actual = results_of(sample)
    expected = forward_backward(parts, sample, torch.float64)
    assert expected["weight"].count_nonzero() >= 6, "windows must matter"
    assert_close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_windows(dtype: torch.dtype) -> None:
    check_windowed(dtype)


@pytest.mark.usefixtures("short_chunks")
def test_windows_in_several_chunks() -> None:
    check_windowed(FLOAT32)


@on_gpu_only
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("case", LARGE_CASES, ids=str)
def test_large_cases(case: Case, dtype: torch.dtype) -> None:
    check_case(case, dtype)


@on_gpu_only
def test_longest_sequence_with_slow_decay() -> None:
    sample = make(Case(1, 200, 336, 3, 1, 1, 1, False), FLOAT32)
    sample.leaves["A"].fill_(-1e-3)
    expected = forward_backward(on("chunked"), sample, torch.float64)
    assert_close(results_of(sample), expected, TOLERANCE[FLOAT32])


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
@pytest.mark.parametrize(
    ("tables", "sizes"),
    [(hand_made(), (1, 3, 2, 1)), (random_tables(2, 3, 8), (1, 2, 1, 1))],
    ids=["hand", "eight"],
)
def test_empty_positions_and_unmerged_directions(tables: Tables, sizes, merge: bool) -> None:
    inputs = make_positions(tables, *sizes, FLOAT32)
    upstream = upstream_of(inputs, tables, merge)
    there = moved(tables._asdict())

    def op(**leaves: Tensor) -> Tensor:
        return directional_scan(**leaves, **there, merge=merge, backend="triton")

    def parts(**leaves: Tensor) -> Tensor:
        y = position_by_position(tables, **leaves)
        return y.sum(1) if merge else y

    with uninitialised_memory_is_nan():
        actual = run(op, moved(inputs), upstream.to(DEVICE))
    expected = run(parts, {n: v.double() for n, v in inputs.items()}, upstream)
    assert_close({n: v.cpu() for n, v in actual.items()}, expected, TOLERANCE[FLOAT32])


@pytest.mark.parametrize(("bias", "decay"), [(-30.0, -1.0), (20.01, -1e3), (100.0, -1e-4)])
def test_extreme_steps_and_decays(bias: float, decay: float) -> None:
    case = Case(1, 1, 4, 3, 1, 1, 1, False)
    sample = make(case, FLOAT32)
    sample.leaves["dt_bias"].fill_(bias)
    sample.leaves["dt_weight"].mul_(0.01)
    sample.leaves["A"].fill_(decay)
    actual = results_of(sample)
    expected = forward_backward(on("reference"), sample, torch.float64)
    for name, value in actual.items():
        assert value.isfinite().all(), name
        scale = expected[name].norm().clamp(min=1e-30)
        assert (value.double() - expected[name]).norm() <= 1e-4 * scale + 1e-6, name
    assert_close({"y": actual["y"]}, {"y": expected["y"]}, TOLERANCE[FLOAT32])


@pytest.mark.usefixtures("short_chunks")
def test_runs_agree_bit_for_bit_whatever_the_layout() -> None:
    sample = windowed(FLOAT32)
    first = results_of(sample)
    strided = {n: torch.stack([v, v + 1], -1)[..., 0] for n, v in sample.leaves.items()}
    runs = [results_of(Sample(strided, sample.tables, sample.upstream))]
    runs += [] if INTERPRETED else [results_of(sample) for _ in range(19)]
    for other in runs:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_states_are_float32_under_autocast() -> None:
    sample = make(Case(1, 1, 2, 3, 1, 1, 1, False), BFLOAT16)
    plain = results_of(sample)
    with torch.autocast(DEVICE.type, BFLOAT16):
        mixed = results_of(sample)
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_nothing_is_saved_without_a_gradient() -> None:
    sample = make(Case(1, 1, 5, 3, 2, 1, 1, False), FLOAT32)
    inputs = moved({**sample.leaves, **sample.tables})
    expected = forward_backward(on("triton"), Sample(moved(sample.leaves), moved(sample.tables),
                                                     sample.upstream.to(DEVICE)))["y"]  # fmt: skip
    with torch.inference_mode():
        y = directional_scan(**inputs, backend="triton")
    assert torch.equal(y, expected)
    assert not y.requires_grad


def test_opcheck() -> None:
    sample = make(Case(1, 1, 2, 3, 1, 1, 1, False), FLOAT32)
    leaves, tables = moved(sample.leaves), moved(sample.tables)
    plain = (*leaves.values(), *tables.values(), None, None, True)
    leaf = tuple(v.clone().requires_grad_() for v in leaves.values())
    arguments = (*leaf, *plain[len(leaf) :], "triton", True)
    kinds = ("test_schema", "test_faketensor")
    op = torch.ops.mmquad.directional_scan.default
    torch.library.opcheck(op, arguments, test_utils=kinds)
    _, states = torch.ops.mmquad.directional_scan(*plain, "triton", True)
    backward = (sample.upstream.to(DEVICE), *plain, states, "triton")
    op = torch.ops.mmquad.directional_scan_backward.default
    torch.library.opcheck(op, backward, test_utils=kinds)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 3)])
def test_empty_batch(shape: tuple[int, int, int]) -> None:
    sample = make(Case(2, 2, 2, 3, 1, 1, 1, False), FLOAT32)
    leaves = {n: v[: shape[0]] if n in ("x", "z") else v for n, v in sample.leaves.items()}
    results = results_of(Sample(leaves, sample.tables, sample.upstream[: shape[0]]))
    assert results["y"].shape == shape
    assert bool(results["A"].any()) == bool(shape[0])


# Batch, channels, length, states, groups.
SHAPES = [
    ((2, 6, 1, 1, 1), FLOAT32),
    ((1, 6, 5, 2, 3), FLOAT32),
    ((1, 70, 3, 1, 1), BFLOAT16),
    ((1, 4, 5, 3, 2), FLOAT16),
]
LARGE_SHAPES = [(1, 10, 64, 16, 5), (3, 7, 65, 2, 1), (2, 8, 300, 4, 2), (8, 514, 9, 2, 2)]


def check_selective(inputs: dict[str, Tensor], dtype: torch.dtype, softplus: bool = True) -> None:
    """As :func:`test_selective_scan.check`, on the device."""
    if INTERPRETED:
        check(inputs, "triton", TOLERANCE[dtype], softplus)
        return
    states = inputs["A"].shape[1]
    upstream = [torch.randn(inputs["u"].shape), torch.randn(*inputs["u"].shape[:2], states)]
    outcomes = []
    for function, device, kind in (
        (lambda **kw: equations(**kw, delta_softplus=softplus), "cpu", torch.float64),
        (
            lambda **kw: selective_scan(
                **kw, delta_softplus=softplus, return_last_state=True, backend="triton"
            ),
            "cuda",
            None,
        ),
    ):
        leaves = {
            n: None if v is None else v.to(device, kind or v.dtype).detach().requires_grad_()
            for n, v in inputs.items()
        }
        y, last = function(**leaves)
        present = {n: v for n, v in leaves.items() if v is not None}
        upper = [g.to(o.device, o.dtype) for g, o in zip(upstream, (y, last), strict=True)]
        grads = torch.autograd.grad((y, last), list(present.values()), upper)
        named = {"y": y.detach(), "last": last.detach(), **dict(zip(present, grads, strict=True))}
        outcomes.append({n: v.cpu().double() for n, v in named.items()})
    assert_close(outcomes[1], outcomes[0], TOLERANCE[dtype])


@pytest.mark.parametrize(("shape", "dtype"), SHAPES, ids=str)
def test_selective_scan(shape: tuple, dtype: torch.dtype) -> None:
    with uninitialised_memory_is_nan():
        check_selective(make_inputs(*shape, dtype), dtype)


@pytest.mark.usefixtures("short_chunks")
def test_selective_scan_in_several_chunks() -> None:
    check_selective(make_inputs(1, 4, 17, 1, 2, FLOAT32), FLOAT32)


@on_gpu_only
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("shape", LARGE_SHAPES, ids=str)
def test_selective_scan_of_large_shapes(shape: tuple, dtype: torch.dtype) -> None:
    check_selective(make_inputs(*shape, dtype), dtype)


@pytest.mark.parametrize("softplus", [True, False])
def test_selective_scan_without_options(softplus: bool) -> None:
    inputs = make_inputs(1, 4, 3, 2, 2, FLOAT32)
    inputs["delta"] = inputs["delta"].abs()
    check_selective(inputs | {"D": None, "delta_bias": None, "z": None}, FLOAT32, softplus)


def test_selective_scan_of_token_major_views() -> None:
    """Transposed views, as mixers pass them, and constant B and C: one group per channel."""
    inputs = make_inputs(1, 4, 5, 2, 1, FLOAT32)
    inputs.pop("z")
    there = moved(inputs)
    plain = selective_scan(**there, delta_softplus=True, backend="triton")
    views = {n: v.mT.contiguous().mT if n in ("u", "delta", "B", "C") else v
             for n, v in there.items()}  # fmt: skip
    viewed = selective_scan(**views, delta_softplus=True, backend="triton")
    assert torch.equal(plain, viewed)
    assert viewed.stride() == views["u"].stride()
    constant = there | {"B": there["A"].exp(), "C": there["A"].sin()}
    spread = {n: constant[n].cpu().double()[None, :, :, None].expand(1, 4, 2, 5) for n in "BC"}
    wide = {n: v.cpu().double() for n, v in constant.items()} | spread
    expected = selective_scan_reference(**wide, delta_softplus=True)[0]
    actual = selective_scan(**constant, delta_softplus=True, backend="triton").cpu()
    assert_close({"y": actual}, {"y": expected}, TOLERANCE[FLOAT32])


@pytest.mark.parametrize("backends", [BACKENDS, SELECTIVE_BACKENDS], ids=lambda b: b.op)
def test_auto_chooses_it_on_gpus_and_never_interprets(backends) -> None:
    x = torch.zeros(1, 2, 3, device=DEVICE)
    B = torch.zeros(1, 1, 1, 2, device=DEVICE)
    inputs = {"x": x, "z": x, "dt_weight": x, "A": x, "order": x.long(), "merge": True}
    if backends.op == "selective_scan":
        inputs = {"u": x, "delta": x, "A": x[0], "B": B, "C": B, "D": None, "delta_bias": None}
    assert (backends.select("auto", **inputs) == "triton") == (not INTERPRETED)
    assert backends.select("triton", **inputs) == "triton"
    key = "x" if "x" in inputs else "u"
    with pytest.raises(ValueError, match=f"computes in float32: .*{key} is torch.float64"):
        backends.select("triton", **{**inputs, key: x.double()})
    with pytest.raises(ValueError, match="is on meta"):
        backends.select("triton", **{**inputs, key: x.to("meta")})
