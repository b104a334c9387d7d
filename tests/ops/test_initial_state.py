"""Scans that go on from a state: both ops, values and gradients, and outputs in another dtype."""

import pytest
import torch
from test_directional_scan import CASES, NAMES, Case, every_backend, make, on
from test_directional_scan_positions import hand_made
from test_directional_scan_positions import make as make_positions
from test_selective_scan import ON_CPU, TOLERANCE, make_inputs
from test_selective_scan import check as check_selective
from torch import Tensor

from benchmarks.scan_accuracy import uninitialised_memory_is_nan
from mmquad.export import scan_decompositions
from mmquad.ops import directional_scan, selective_scan
from mmquad.ops.directional_scan import BACKENDS
from mmquad.ops.selective_scan import BACKENDS as SELECTIVE_BACKENDS

DOUBLE, FLOAT = torch.float64, torch.float32


def normal(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("dtype", [DOUBLE, FLOAT], ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 6, 1, 1, 1), (2, 12, 9, 4, 3), (1, 70, 65, 2, 2), (8, 514, 3, 2, 2)], ids=str
)
def test_selective_scan_and_every_gradient(shape: tuple, dtype: torch.dtype, backend: str) -> None:
    inputs = make_inputs(*shape, dtype)
    inputs["initial_state"] = normal(shape[0], shape[1], shape[3], dtype=dtype)
    with uninitialised_memory_is_nan():
        check_selective(inputs, backend, TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("cut", [1, 64, 70])
def test_two_halves_make_a_whole(cut: int, backend: str) -> None:
    """The gradient flows through the state that is handed on."""
    inputs = make_inputs(2, 6, 90, 3, 2, DOUBLE)
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    options = {"delta_softplus": True, "return_last_state": True, "backend": backend}
    y, last = selective_scan(**leaves, **options)

    per_token = ("u", "delta", "B", "C", "z")
    early = leaves | {name: leaves[name][..., :cut] for name in per_token}
    late = leaves | {name: leaves[name][..., cut:] for name in per_token}
    y_early, state = selective_scan(**early, **options)
    y_late, last_of_two = selective_scan(**late, initial_state=state, **options)
    torch.testing.assert_close(torch.cat([y_early, y_late], dim=2), y, rtol=0, atol=1e-11)
    torch.testing.assert_close(last_of_two, last, rtol=0, atol=1e-11)

    upstream = (normal(*y.shape), normal(*last.shape))
    whole = torch.autograd.grad((y, last), list(leaves.values()), upstream)
    two = torch.autograd.grad(
        (y_early, y_late, last_of_two),
        list(leaves.values()),
        (upstream[0][..., :cut], upstream[0][..., cut:], upstream[1]),
    )
    for a, b in zip(two, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def directional(case: Case, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    sample = make(case, dtype)
    state = normal(case.batch, case.directions, case.channels, case.states)
    return sample.leaves | {"initial_state": state.to(sample.leaves["A"].dtype)}, sample.tables


def forward_backward(
    function, leaves: dict, tables: dict, dtype: torch.dtype | None = None
) -> dict:
    leaves = {n: v.detach().to(dtype or v.dtype).requires_grad_() for n, v in leaves.items()}
    y = function(**leaves, **tables)
    gradients = torch.autograd.grad(y, list(leaves.values()), normal(*y.shape).to(y.dtype))
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def token_by_token(x, z, dt_weight, dt_bias, A, D_skip, initial_state, order, **windows) -> Tensor:
    """The equations of the op's documentation, gradients by autograd; fixed orders only."""
    assert not windows.get("window")
    directions, ranks, states = A.shape[0], dt_weight.shape[2], A.shape[2]
    y = [torch.zeros_like(x[:, 0]) for _ in range(x.shape[1])]
    for k in range(directions):
        own = z.unflatten(2, (directions, -1))[:, :, k]
        h = initial_state[:, k]
        for token in order[0, k].tolist():
            column = own[:, token] if token >= 0 else torch.zeros_like(own[:, 0])
            rank, B, C = column.split([ranks, states, states], dim=-1)
            value = x[:, token] if token >= 0 else torch.zeros_like(x[:, 0])
            delta = torch.nn.functional.softplus(rank @ dt_weight[k].T + dt_bias[k])[..., None]
            h = torch.exp(delta * A[k]) * h + delta * B[:, None] * value[..., None]
            if token >= 0:
                y[token] = y[token] + (C[:, None] * h).sum(-1) + D_skip[k] * value
    return torch.stack(y, dim=1)


@every_backend
@pytest.mark.parametrize("dtype", [DOUBLE, FLOAT], ids=str)
@pytest.mark.parametrize("threads", [1, 3], ids=["together", "apart"])
@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[4]], ids=str)
def test_directional_scan_and_every_gradient(
    case: Case, threads: int, dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three threads, directions are given memory of their own."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    leaves, tables = directional(case, dtype)
    with uninitialised_memory_is_nan():
        actual = forward_backward(on(backend), leaves, tables)
    expected = forward_backward(
        lambda inverse, **inputs: token_by_token(**inputs), leaves, tables, DOUBLE
    )
    for name, value in expected.items():
        error = (actual[name].double() - value).norm() / value.norm()
        assert error < (1e-11 if dtype == DOUBLE else 1e-5), f"{name}: {error:.1e}"


@every_backend
def test_empty_positions_decay_the_state(backend: str) -> None:
    tables = hand_made()
    leaves = make_positions(tables, 2, 3, 2, 1, DOUBLE)
    leaves["initial_state"] = normal(2, 2, 3, 2)
    named = {"order": tables.order, "inverse": tables.inverse}
    actual = forward_backward(on(backend), leaves, named)
    expected = forward_backward(lambda inverse, **inputs: token_by_token(**inputs), leaves, named)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-11, msg=name)


@every_backend
def test_windows(backend: str) -> None:
    """Which order is read does not matter to what is held before it."""
    leaves, tables = directional(CASES[5], DOUBLE)
    actual = forward_backward(on(backend), leaves, tables)
    expected = forward_backward(on("reference"), leaves, tables)
    nothing = forward_backward(
        on("reference"), leaves | {"initial_state": 0 * leaves["initial_state"]}, tables
    )
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-9, msg=name)
    assert not torch.allclose(expected["weight"], nothing["weight"])


@pytest.mark.parametrize("backend", ["triton", "cuda", "mamba_ssm"])
def test_those_that_start_from_zeros_say_so(backend: str) -> None:
    leaves, tables = directional(CASES[2], FLOAT)
    inputs = {name: leaves.get(name) for name in (*NAMES, "initial_state")} | tables
    reason = "takes no initial_state; chunked and reference do, on any device"
    assert reason in BACKENDS[backend].unsupported(**inputs)
    assert reason not in BACKENDS[backend].unsupported(**inputs | {"initial_state": None})
    if backend != "cuda":
        one = torch.ones(1, 2, 3)
        scan = dict.fromkeys(("u", "delta", "B", "C"), one[:, None]) | {"A": one[0], "u": one}
        unsupported = SELECTIVE_BACKENDS[backend].unsupported
        assert reason in unsupported(**scan, initial_state=one)
        assert reason not in unsupported(**scan, initial_state=None)


def test_shapes_are_checked() -> None:
    leaves, tables = directional(CASES[2], FLOAT)
    leaves["initial_state"] = leaves["initial_state"].transpose(2, 3)
    with pytest.raises(ValueError, match=r"initial_state must be \(2, 4, 33, 1\)"):
        directional_scan(**leaves, **tables)
    one = torch.ones(1, 2, 3)
    state = torch.ones(1, 3, 2)
    with pytest.raises(ValueError, match=r"initial_state must be \[B, D, N\]=\(1, 2, 3\)"):
        selective_scan(one, one, -one[0], one.mT, one.mT, initial_state=state)


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, DOUBLE], ids=str)
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
def test_output_in_another_dtype(dtype: torch.dtype, merge: bool, backend: str) -> None:
    """Rounded once, at the end; gradients keep the dtypes of what they belong to."""
    leaves, tables = directional(CASES[2], FLOAT)
    leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    options = {"merge": merge, "backend": backend}
    expected = directional_scan(**leaves, **tables, **options)
    y = directional_scan(**leaves, **tables, **options, out_dtype=dtype)
    assert torch.equal(y, expected.to(dtype))
    upstream = normal(*y.shape).to(torch.bfloat16).to(dtype)  # exact in either
    actual = torch.autograd.grad(y, list(leaves.values()), upstream)
    wanted = torch.autograd.grad(expected, list(leaves.values()), upstream.float())
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_output_must_be_floating_point() -> None:
    leaves, tables = directional(CASES[2], FLOAT)
    with pytest.raises(ValueError, match="out_dtype must be real and floating point"):
        directional_scan(**leaves, **tables, out_dtype=torch.int32)


def test_opcheck() -> None:
    leaves, tables = directional(CASES[2], FLOAT)
    arguments = {name: leaves.get(name) for name in NAMES[:-1]} | tables
    inputs = [arguments[name].requires_grad_() for name in NAMES[:-1]]
    options = (*tables.values(), None, None, True, "reference", True)
    state = leaves["initial_state"].requires_grad_()
    torch.library.opcheck(
        torch.ops.mmquad.directional_scan.default, (*inputs, *options, state, torch.bfloat16)
    )
    u, A = normal(1, 4, 3, dtype=FLOAT).requires_grad_(), -torch.ones(4, 2)
    B = normal(1, 1, 2, 3, dtype=FLOAT)
    torch.library.opcheck(
        torch.ops.mmquad.selective_scan.default,
        (u, u, A, B, B, None, None, True, FLOAT, "reference", normal(1, 4, 2).float()),
    )


def test_what_is_exported_starts_there_too() -> None:
    ops, decompositions = torch.ops.mmquad, scan_decompositions()
    leaves, tables = directional(CASES[2], FLOAT)
    arguments = [leaves[name] for name in NAMES[:-1]]
    options = (*tables.values(), None, None, True, "reference", False, leaves["initial_state"])
    for dtype in (None, torch.bfloat16):
        exported = decompositions[ops.directional_scan.default](*arguments, *options, dtype)[0]
        expected = ops.directional_scan(*arguments, *options, dtype)[0]
        torch.testing.assert_close(exported, expected)

    inputs = make_inputs(2, 6, 9, 3, 2, FLOAT)
    arguments = [inputs[name] for name in ("u", "delta", "A", "B", "C", "D", "delta_bias")]
    options = (True, FLOAT, "reference", normal(2, 6, 3, dtype=FLOAT))
    exported = decompositions[ops.selective_scan.default](*arguments, *options)
    expected = ops.selective_scan(*arguments, *options)
    for mine, theirs in zip(exported, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
