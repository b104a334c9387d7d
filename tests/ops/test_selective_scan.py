"""Every backend of the selective scan, outputs and gradients, against the equations in float64."""

import math

import pytest
import torch
from cotangents import project
from cpu_backends import cpu_backends
from torch import Tensor

from mmquad.ops import selective_scan
from mmquad.ops.selective_scan import BACKENDS, selective_scan_reference
from mmquad.ops.selective_scan.reference import selective_scan_backward_reference

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
ON_CPU = cpu_backends(BACKENDS)
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "z")

# batch, channels, length, states, groups. The last two are so wide that one chunk is used.
SHAPES = [
    (2, 6, 1, 1, 1),
    (1, 5, 2, 2, 1),
    (2, 6, 7, 4, 3),
    (2, 12, 49, 1, 4),
    (1, 10, 64, 16, 5),
    (3, 7, 65, 2, 1),
    (2, 8, 196, 4, 2),
    (1, 33, 784, 1, 3),
    (8, 514, 1, 2, 2),
    (8, 514, 9, 2, 2),
]


def make_inputs(
    batch: int, channels: int, length: int, states: int, groups: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Inputs as autocast leaves them: tokens in ``dtype``, parameters no narrower than float32."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    wide = torch.promote_types(dtype, torch.float32)
    return {
        "u": normal(batch, channels, length).to(dtype),
        "delta": normal(batch, channels, length).to(dtype),
        "A": -normal(channels, states).exp().to(wide),
        "B": normal(batch, groups, states, length).to(dtype),
        "C": normal(batch, groups, states, length).to(dtype),
        "D": normal(channels).to(wide),
        "delta_bias": normal(channels).to(wide),
        "z": normal(batch, channels, length).to(dtype),
    }


def equations(
    u, delta, A, B, C, D, delta_bias, z, delta_softplus, initial_state=None
) -> tuple[Tensor, Tensor]:
    """The reference as a plain function, so that its gradients are autograd's."""
    B, C = (x[:, None] if x.ndim == 3 else x for x in (B, C))
    inputs = (u, delta, A, B, C, D, delta_bias, delta_softplus)
    y, last = selective_scan_reference(*inputs, initial_state)
    return (y if z is None else y * torch.nn.functional.silu(z)), last


def forward_backward(function, inputs: dict, upstream: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Outputs of ``function`` and the gradients of all inputs that are not None."""
    leaves = {
        name: None if value is None else value.detach().clone().requires_grad_()
        for name, value in inputs.items()
    }
    y, last = function(**leaves)
    grads = torch.autograd.grad(
        (y, last),
        [leaf for leaf in leaves.values() if leaf is not None],
        tuple(g.to(out.dtype) for g, out in zip(upstream, (y, last), strict=True)),
    )
    present = [name for name, leaf in leaves.items() if leaf is not None]
    result = {f"d{name}": grad for name, grad in zip(present, grads, strict=True)}
    return {"y": y.detach(), "last": last.detach(), **result}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.isfinite().all(), name
        difference = (value.double() - expected[name].double()).norm()
        scale = expected[name].double().norm()
        assert difference <= tolerance * scale, f"{name}: {difference / scale:.2e} > {tolerance}"


def check(inputs: dict, backend: str, tolerance: float, delta_softplus: bool = True) -> None:
    """Compare a backend with the equations, both in values and in every gradient."""
    states = inputs["A"].shape[1]
    upstream = (
        torch.randn(inputs["u"].shape).to(inputs["u"].dtype),
        torch.randn(*inputs["u"].shape[:2], states),
    )
    expected = forward_backward(
        lambda **kw: equations(**kw, delta_softplus=delta_softplus),
        {name: None if value is None else value.double() for name, value in inputs.items()},
        upstream,
    )
    actual = forward_backward(
        lambda **kw: selective_scan(
            **kw, delta_softplus=delta_softplus, return_last_state=True, backend=backend
        ),
        inputs,
        upstream,
    )
    assert_close(actual, expected, tolerance)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients(shape: tuple, dtype: torch.dtype, backend: str) -> None:
    check(make_inputs(*shape, dtype), backend, TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("absent", ["D", "delta_bias", "z", "all"])
@pytest.mark.parametrize("delta_softplus", [True, False])
def test_optional_inputs(absent: str, delta_softplus: bool, backend: str) -> None:
    inputs = make_inputs(2, 6, 19, 3, 2, torch.float64)
    inputs["delta"] = inputs["delta"].abs()
    inputs["delta_bias"] = inputs["delta_bias"].abs()
    for name in ("D", "delta_bias", "z") if absent == "all" else (absent,):
        inputs[name] = None
    check(inputs, backend, TOLERANCE[torch.float64], delta_softplus)


@pytest.mark.parametrize("backend", ON_CPU)
def test_parameters_in_half_precision(backend: str) -> None:
    inputs = make_inputs(2, 6, 49, 2, 3, torch.float32)
    inputs = {name: value.to(torch.bfloat16) for name, value in inputs.items()}
    check(inputs, backend, TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize("backend", ON_CPU)
def test_ungrouped_projections(backend: str) -> None:
    inputs = make_inputs(2, 6, 19, 3, 1, torch.float64)
    check(inputs | {"B": inputs["B"][:, 0], "C": inputs["C"][:, 0]}, backend, 1e-12)


@pytest.mark.parametrize("backend", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("groups", [(2, 1), (1, 3), (3, 2)])
def test_projections_in_different_groups(groups: tuple[int, int], backend: str) -> None:
    B, C = (
        make_inputs(2, 6, 19, 3, g, torch.float64)[n] for g, n in zip(groups, "BC", strict=True)
    )
    check(make_inputs(2, 6, 19, 3, 1, torch.float64) | {"B": B, "C": C}, backend, 1e-12)


@pytest.mark.parametrize("backend", ON_CPU)
def test_constant_projections(backend: str) -> None:
    """``[D, N]`` is one group per channel, the same at every token; gradients sum over tokens."""
    inputs = make_inputs(2, 6, 19, 3, 1, torch.float64)
    B, C = (torch.randn(6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rest = {name: inputs[name] for name in ("u", "delta", "A")}
    constant = selective_scan(**rest, B=B, C=C, backend=backend)
    spread = [x[None, :, :, None].expand(2, 6, 3, 19) for x in (B, C)]
    expected = selective_scan_reference(*rest.values(), *spread, None, None, False)[0]
    torch.testing.assert_close(constant, expected)
    for mine, theirs in zip(
        torch.autograd.grad(project(constant), (B, C)),
        torch.autograd.grad(project(expected), (B, C)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("decay_rate", [1e-4, 1.0, 16.0, 1e3])
def test_extreme_steps_and_decays(decay_rate: float, backend: str) -> None:
    """Raw steps from -30 to 100, one decay rate at a time: no gradient hides another's error."""
    inputs = make_inputs(2, 8, 130, 1, 2, torch.float32)
    raw = torch.tensor([-30.0, -10.0, 0.0, 1.0, 19.99, 20.01, 88.0, 100.0])
    inputs["delta"] = raw[torch.randint(8, inputs["delta"].shape)]
    inputs["delta_bias"] = None
    inputs["A"] = torch.full((8, 1), -decay_rate)
    check(inputs, backend, TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("exponent", [10.0, 16.0])
def test_gradient_of_fast_decays(exponent: float, backend: str) -> None:
    """dA is small but not noise when a state loses 5 to 7 digits per token."""
    inputs = make_inputs(1, 4, 64, 1, 1, torch.float32)
    inputs |= {"delta": torch.ones(1, 4, 64), "A": torch.full((4, 1), -exponent)}
    inputs |= {"D": None, "delta_bias": None, "z": None}
    check(inputs, backend, TOLERANCE[torch.float32], delta_softplus=False)


@pytest.mark.parametrize("backend", ON_CPU)
def test_autocast_keeps_the_state_in_float32(backend: str) -> None:
    inputs = make_inputs(1, 4, 400, 2, 1, torch.bfloat16)
    # A long memory: rounding the state to bfloat16 at every token would be off by several percent.
    inputs["A"] = torch.full((4, 2), -1e-3)
    inputs["u"], inputs["B"] = inputs["u"].abs(), inputs["B"].abs()
    exact = {name: value.double() for name, value in inputs.items() if name != "z"}
    _, expected = selective_scan_reference(**exact, delta_softplus=True)
    inputs.pop("z")
    with torch.autocast("cpu", torch.bfloat16):
        y, last = selective_scan(
            **inputs, delta_softplus=True, return_last_state=True, backend=backend
        )
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert (last.double() - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("backend", ON_CPU)
def test_out_dtype(backend: str) -> None:
    inputs = make_inputs(1, 4, 9, 2, 1, torch.float16)
    inputs.pop("z")
    y = selective_scan(**inputs, out_dtype=torch.float32, backend=backend)
    assert y.dtype == torch.float32
    assert not torch.equal(y, y.half().float()), "float32 outputs were rounded on the way"


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_closed_gate_makes_large_outputs_finite(backend: str) -> None:
    """What the gate lets through is rounded, not what comes before it: 1e5 has no float16."""
    one = torch.ones(1, 1, 4, dtype=torch.float16)
    C, z = torch.full((1, 1, 4), 1e5), torch.full_like(one, -4)
    y = selective_scan(one, one, -torch.ones(1, 1), one, C, z=z, backend=backend)
    exact = selective_scan(one, one, -torch.ones(1, 1), one, C, out_dtype=torch.float32)
    assert y.dtype == torch.float16
    expected = exact * torch.nn.functional.silu(z.float())
    torch.testing.assert_close(y, expected.half())


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("length", [40, 70])
def test_growing_states(length: int, backend: str) -> None:
    """The product of all decays is beyond float32; of those since the first input it is not."""
    u, one = torch.zeros(1, 4, length, requires_grad=True), torch.ones(1, 4, length)
    late = u + (torch.arange(length) >= length - 5)
    y, last = selective_scan(
        *(late, one, torch.full((4, 1), 3.0), one[:, :1], one[:, :1]),
        return_last_state=True,
        backend=backend,
    )
    powers = torch.tensor([math.exp(3 * n) for n in range(5)])
    torch.testing.assert_close(last, powers.sum().expand(1, 4, 1))
    torch.testing.assert_close(y[0, :, -5:], powers.cumsum(0).expand(4, 5))
    (du,) = torch.autograd.grad(y[..., -1].sum(), u)
    torch.testing.assert_close(du[0, :, -5:], powers.flip(0).expand(4, 5))


@pytest.mark.parametrize("backend", ON_CPU)
def test_empty_batch(backend: str) -> None:
    inputs = {k: v.requires_grad_() for k, v in make_inputs(0, 6, 5, 2, 3, torch.float32).items()}
    y, last = selective_scan(**inputs, return_last_state=True, backend=backend)
    assert (y.shape, last.shape) == ((0, 6, 5), (0, 6, 2))
    (y.sum() + last.sum()).backward()
    assert inputs["A"].grad.eq(0).all()
    assert inputs["u"].grad.shape == (0, 6, 5)


def test_reference_is_a_lower_triangular_product() -> None:
    """``y = M u`` with ``M[t, s] = C_t exp(A sum of the steps after s up to t) delta_s B_s``."""
    inputs = make_inputs(1, 3, 12, 4, 1, torch.float64)
    delta = torch.nn.functional.softplus(inputs["delta"] + inputs["delta_bias"][:, None])
    time = delta.cumsum(-1)[0]  # [D, L]
    between = (time[:, :, None] - time[:, None]).tril()  # [D, t, s]
    B, C = inputs["B"][0, 0], inputs["C"][0, 0]
    matrix = torch.einsum(
        "nt,dnts,ds,ns->dts",
        C,
        (inputs["A"][..., None, None] * between[:, None]).exp(),
        delta[0],
        B,
    ).tril()
    expected = torch.einsum("dts,ds->dt", matrix, inputs["u"][0])
    expected += inputs["D"][:, None] * inputs["u"][0]
    inputs.pop("z")
    y, _ = selective_scan_reference(**inputs, delta_softplus=True)
    torch.testing.assert_close(y[0], expected)


@pytest.mark.parametrize("backend", ON_CPU)
def test_constant_decay_has_a_closed_form(backend: str) -> None:
    """A constant input of 1 with N = 1: ``y_t = delta (1 - a^t) / (1 - a)``, t from 1."""
    step, rate, length = 0.25, -0.8, 300
    one = torch.ones(1, 1, length, dtype=torch.float64)
    A = torch.full((1, 1), rate, dtype=torch.float64)
    y = selective_scan(one, step * one, A, one, one, backend=backend)
    a = torch.tensor(step * rate, dtype=torch.float64).exp()
    t = torch.arange(1, length + 1, dtype=torch.float64)
    torch.testing.assert_close(y[0, 0], step * (1 - a**t) / (1 - a))


def test_reference_backward_is_autograds() -> None:
    inputs = make_inputs(2, 6, 11, 3, 2, torch.float64)
    inputs.pop("z")
    leaves = [value.requires_grad_() for value in inputs.values()]
    y, last = selective_scan_reference(*leaves, True)
    dy, dlast = torch.randn_like(y), torch.randn_like(last)
    expected = torch.autograd.grad((y, last), leaves, (dy, dlast))
    with torch.no_grad():
        actual = selective_scan_backward_reference(dy, dlast, *leaves, True)
    for name, mine, theirs in zip(NAMES, actual, expected, strict=False):
        torch.testing.assert_close(mine, theirs, msg=lambda text, name=name: f"{name}: {text}")
