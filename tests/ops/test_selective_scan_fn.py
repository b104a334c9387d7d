"""``selective_scan_fn`` over the grid on which state-spaces/mamba tests theirs."""

import functools
import inspect
import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mmquad.ops import selective_scan, selective_scan_fn, use_backend

# Of the norm, as everywhere here; theirs are element by element, 2e-3, 5e-3 and 5e-2 at the least.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
BATCH, CHANNELS, STATES = 2, 4, 8
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")

# What users get, native where it can run: it leaves B and C of different groups to chunked.
BACKENDS = ["auto", "chunked"]


class Options(NamedTuple):
    b_varies: bool
    c_varies: bool
    groups: int
    has_skip: bool
    has_z: bool
    has_delta_bias: bool
    delta_softplus: bool


EVERY_OPTION = [
    Options(b_varies, c_varies, groups, *rest)
    for b_varies, c_varies, groups, *rest in itertools.product(
        (True, False), (True, False), (1, 2), *[(True, False)] * 4
    )
    if groups == 1 or b_varies or c_varies
]
ALL = Options(True, True, 2, True, True, True, True)
FEWEST = Options(False, False, 1, False, False, False, False)


def make(options: Options, length: int, dtype: torch.dtype) -> list[Tensor | None]:
    """Tokens in ``dtype``, weights in float32; slow decays and steps around 1/4, as there."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def projection(variable: bool) -> Tensor:
        if not variable:
            return normal(CHANNELS, STATES)
        groups = () if options.groups == 1 else (options.groups,)
        return normal(BATCH, *groups, STATES, length).to(dtype)

    tokens = (BATCH, CHANNELS, length)
    return [
        normal(*tokens).to(dtype),
        (uniform(*tokens) / 2).to(dtype),
        -uniform(CHANNELS, STATES) / 2,
        projection(options.b_varies),
        projection(options.c_varies),
        normal(CHANNELS) if options.has_skip else None,
        normal(*tokens).to(dtype) if options.has_z else None,
        uniform(CHANNELS) / 2 if options.has_delta_bias else None,
    ]


def results_of(
    inputs: list[Tensor | None], softplus: bool, backend: str, wide: bool = False
) -> dict[str, Tensor]:
    """Both outputs and every gradient; positional, in their order."""
    leaves = [
        None if value is None else value.detach().to(torch.float64 if wide else value.dtype)
        for value in inputs
    ]
    present = [leaf.requires_grad_() for leaf in leaves if leaf is not None]
    with use_backend(backend):
        y, last = selective_scan_fn(*leaves, softplus, True)
    generator = torch.Generator().manual_seed(0)
    upstream = [
        torch.randn(out.shape, generator=generator).to(inputs[0].dtype) for out in (y, last)
    ]
    gradients = torch.autograd.grad(
        (y, last), present, [g.to(out.dtype) for g, out in zip(upstream, (y, last), strict=True)]
    )
    names = [name for name, leaf in zip(NAMES, leaves, strict=True) if leaf is not None]
    return {"y": y.detach(), "last": last.detach(), **dict(zip(names, gradients, strict=True))}


@functools.cache
def expected_of(options: Options, length: int, dtype: torch.dtype) -> dict[str, Tensor]:
    inputs = make(options, length, dtype)
    return results_of(inputs, options.delta_softplus, "reference", wide=True)


def check(options: Options, length: int, dtype: torch.dtype, backend: str) -> None:
    inputs = make(options, length, dtype)
    actual = results_of(inputs, options.delta_softplus, backend)
    assert actual["y"].dtype == dtype
    assert actual["last"].dtype == torch.float32
    assert actual["last"].shape == (BATCH, CHANNELS, STATES)
    given = dict(zip(NAMES, inputs, strict=True))
    for name, expected in expected_of(options, length, dtype).items():
        value = actual[name]
        if name in given:
            assert (value.dtype, value.shape) == (given[name].dtype, given[name].shape), name
        error = (value.double() - expected).norm() / expected.norm()
        assert error <= TOLERANCE[dtype], f"{options} {name}: {error:.1e}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_combination_of_options(dtype: torch.dtype, backend: str) -> None:
    for options in EVERY_OPTION:
        check(options, 19, dtype, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [ALL, FEWEST], ids=["all", "fewest"])
@pytest.mark.parametrize("length", [8, 64, 128, 372, 512, 1134, 2048])
def test_every_length(length: int, options: Options, backend: str) -> None:
    check(options, length, torch.float32, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("length", [372, 1134])
def test_long_sequences_in_16_bits(length: int, dtype: torch.dtype, backend: str) -> None:
    check(ALL, length, dtype, backend)


def test_signature_is_theirs() -> None:
    parameters = inspect.signature(selective_scan_fn).parameters.values()
    assert [(p.name, p.default) for p in parameters if p.default is not p.empty] == [
        ("D", None),
        ("z", None),
        ("delta_bias", None),
        ("delta_softplus", False),
        ("return_last_state", False),
    ]
    assert [p.name for p in parameters][:5] == ["u", "delta", "A", "B", "C"]
    assert {p.kind for p in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_the_state_is_returned_on_request_only() -> None:
    inputs = make(ALL, 5, torch.float32)
    assert isinstance(selective_scan_fn(*inputs, True), Tensor)


def test_their_order_is_refused_by_ours() -> None:
    """In silence, a gate could be taken for a bias, and a bias for a switch."""
    inputs = make(ALL, 5, torch.float32)
    with pytest.raises(TypeError, match="positional arguments"):
        selective_scan(*inputs[:7])


@pytest.mark.parametrize("position", [2, 3, 4])
def test_complex_states_are_refused(position: int) -> None:
    inputs = make(FEWEST, 5, torch.float32)
    inputs[position] = inputs[position].to(torch.cfloat)
    with pytest.raises(ValueError, match=f"{NAMES[position]} must be real.* got torch.complex64"):
        selective_scan_fn(*inputs)
