"""Tables in int32, as scans build them, and in int64, as users and older files have them: alike."""

import pytest
import torch
from cotangents import random_cotangents
from test_directional_scan import CASES, Case, Sample, every_backend, forward_backward, make, on
from test_tokens import BATCH, CHANNELS, LENGTH, one_hot_weights, random_orders, random_windows
from torch import Tensor

from mmquad.export import scan_decompositions
from mmquad.ops import tokens

INTEGERS = [torch.int32, torch.int64]


def with_tables(sample: Sample, dtype: torch.dtype) -> Sample:
    return sample._replace(tables={name: t.to(dtype) for name, t in sample.tables.items()})


@every_backend
@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=["fixed", "windows"])
def test_directional_scan_takes_both(case: Case, backend: str) -> None:
    """Bit for bit, gradients included."""
    sample = make(case, torch.float32)
    narrow, wide = (forward_backward(on(backend), with_tables(sample, i)) for i in INTEGERS)
    assert all(torch.equal(narrow[name], wide[name]) for name in wide)


@every_backend
def test_directional_scan_takes_a_mixture(backend: str) -> None:
    sample = make(CASES[5], torch.float32)
    expected = forward_backward(on(backend), with_tables(sample, torch.int64))
    sample.tables["inverse"] = sample.tables["inverse"].to(torch.int32)
    sample.tables["window"] = sample.tables["window"].to(torch.int64)
    actual = forward_backward(on(backend), sample)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def gradients(function, *inputs: Tensor) -> list[Tensor]:
    leaves = [value.detach().requires_grad_() for value in inputs]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, random_cotangents([y]))]


@pytest.mark.parametrize("rows", [1, BATCH])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gather_tokens", (BATCH, LENGTH, CHANNELS)),
        ("merge_tokens", (BATCH, LENGTH, 2, CHANNELS)),
        ("read_directions", (BATCH, 2, LENGTH, CHANNELS)),
        ("return_directions", (BATCH, LENGTH, 2, CHANNELS)),
    ],
)
def test_token_ops_take_both(name: str, shape: tuple[int, ...], rows: int) -> None:
    x, tables = torch.randn(shape, dtype=torch.float64), random_orders(rows, 2)
    op = getattr(tokens, name)
    narrow, wide = (gradients(lambda x: op(x, *(t.to(i) for t in tables)), x) for i in INTEGERS)  # noqa: B023
    assert all(map(torch.equal, narrow, wide))


@pytest.mark.parametrize("form", ["windowed", "masked"])
@pytest.mark.parametrize("op", ["gather", "merge"])
def test_windowed_token_ops_take_both(op: str, form: str) -> None:
    shape = (BATCH, LENGTH, CHANNELS) if op == "gather" else (BATCH, LENGTH, 2, CHANNELS)
    x, tables = torch.randn(shape, dtype=torch.float64), random_windows()
    function = getattr(tokens, f"{op}_tokens_{form}")
    narrow, wide = (
        gradients(lambda x, w: function(x, w, *(t.to(i) for t in tables)), x, one_hot_weights())  # noqa: B023
        for i in INTEGERS
    )
    assert all(map(torch.equal, narrow, wide))


@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=["fixed", "windows"])
def test_what_is_exported_takes_both(case: Case) -> None:
    sample = make(case, torch.float32)

    def decomposed(order, inverse, window=None, **leaves) -> Tensor:
        scan = scan_decompositions()[torch.ops.mmquad.directional_scan.default]
        weight = leaves.pop("weight", None)
        options = (True, "reference", False)
        return scan(*leaves.values(), order, inverse, window, weight, *options)[0]

    narrow, wide = (decomposed(**with_tables(sample, i).tables, **sample.leaves) for i in INTEGERS)
    assert torch.equal(narrow, wide)
