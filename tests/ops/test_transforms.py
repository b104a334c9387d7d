"""Every op under torch.func and forward-mode differentiation: right, or refused in one line."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from test_tokens import random_orders, random_windows
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from mmquad.ops import causal_conv1d, directional_scan, selective_scan, tokens

BATCH, LENGTH, CHANNELS, DIRECTIONS = 2, 12, 3, 2
REFUSED = r"^mmquad: \w+ has no forward-mode derivative \(.*\); use reverse mode: [^\n]*$"
ENDS = r"^mmquad: second derivatives end at \w+_backward; [^\n]*$"


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Call(NamedTuple):
    """An op as a function of one tensor, through which all that is differentiable is reached."""

    function: Callable[[Tensor], Tensor]
    x: Tensor
    linear: bool = False  # its gradient is an op that has one, too


def _calls() -> dict[str, Call]:
    torch.manual_seed(0)
    order, inverse = random_orders(1, DIRECTIONS)
    windows = random_windows(DIRECTIONS)
    chosen = torch.eye(4, dtype=torch.float64)[:BATCH]
    x, xs = normal(BATCH, LENGTH, CHANNELS), normal(BATCH, LENGTH, DIRECTIONS, CHANNELS)
    per_direction = normal(BATCH, DIRECTIONS, LENGTH, CHANNELS)

    def weight_of(x: Tensor) -> Tensor:
        """Zeros and ones with a gradient, as the straight-through choice of a network has it."""
        score = x.flatten(1)[:, :4]
        return chosen + (score - score.detach())

    def scan(x: Tensor) -> Tensor:
        channels_first = x.transpose(1, 2)
        A, bias = -x[0, :CHANNELS, :2].exp(), x[0, 0]
        B = channels_first[:, None, :2]
        y, last = selective_scan(
            *(channels_first, channels_first.sin(), A, B, B.cos(), bias),
            delta_bias=bias,
            delta_softplus=True,
            initial_state=channels_first[..., :2],
            return_last_state=True,
        )
        return torch.cat([y, last], dim=2)

    def fused(tables: tuple[Tensor, ...], windowed: bool) -> Callable[[Tensor], Tensor]:
        def function(x: Tensor) -> Tensor:
            weight, bias, A = (x[0, :2, :, None], x[0, :2], -x[0, 2:4, :, None].exp())
            z = torch.cat([x, x.cos()], dim=2)
            options = {"weight": weight_of(x)} if windowed else {}
            state = x[:, :2, :, None]
            return directional_scan(
                *(x, z, weight, bias, A, bias.sin(), *tables), **options, initial_state=state
            )

        return function

    return {
        "causal_conv1d": Call(lambda x: causal_conv1d(x, x[0, :2].T, x[0, 0]), x),
        "selective_scan": Call(scan, x),
        "directional_scan": Call(fused((order, inverse), False), x),
        "directional_scan, windows": Call(fused(tuple(windows), True), x),
        "gather_tokens": Call(lambda x: tokens.gather_tokens(x, order, inverse), x, True),
        "merge_tokens": Call(lambda y: tokens.merge_tokens(y, order, inverse), xs, True),
        "return_directions": Call(lambda y: tokens.return_directions(y, order, inverse), xs, True),
        "read_directions": Call(
            lambda x: tokens.read_directions(x, order, inverse), per_direction, True
        ),
        "gather_tokens_windowed": Call(
            lambda x: tokens.gather_tokens_windowed(x, weight_of(x), *windows), x
        ),
        "merge_tokens_windowed": Call(
            lambda y: tokens.merge_tokens_windowed(y, weight_of(y), *windows), xs
        ),
    }


CALLS = _calls()
every_op = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def test_no_op_is_left_out() -> None:
    prefix = "mmquad::"
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)}
    others = {name for name in names if name.endswith("_backward")} | {"mmquad::scan_tables"}
    assert {name.removeprefix(prefix) for name in names - others} == {
        name.partition(",")[0] for name in CALLS
    }


def loss_of(call: Call) -> Callable[[Tensor], Tensor]:
    upstream = normal(*call.function(call.x).shape, seed=1)
    return lambda x: (call.function(x).sin() * upstream).sum()


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What autograd alone, tested elsewhere, says."""
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


@every_op
def test_grad(call: Call) -> None:
    loss = loss_of(call)
    assert torch.equal(grad(loss)(call.x), gradient(loss, call.x))
    value, pullback = vjp(loss, call.x)
    assert torch.equal(value, loss(call.x))
    assert torch.equal(pullback(torch.ones_like(value))[0], gradient(loss, call.x))


@every_op
def test_vmap_of_grad_and_grad_of_vmap(call: Call) -> None:
    loss, xs = loss_of(call), torch.stack([call.x, call.x.sin(), 2 * call.x])
    expected = torch.stack([gradient(loss, x) for x in xs])
    torch.testing.assert_close(vmap(grad(loss))(xs), expected, rtol=0, atol=1e-12)
    summed = grad(lambda xs: vmap(loss)(xs).sum())(xs)
    torch.testing.assert_close(summed, expected, rtol=0, atol=1e-12)


@every_op
def test_vmap_over_any_axis(call: Call, recwarn: pytest.WarningsRecorder) -> None:
    xs = torch.stack([call.x, call.x.sin()], dim=-1)
    expected = torch.stack([call.function(x) for x in xs.unbind(-1)])
    torch.testing.assert_close(vmap(call.function, in_dims=-1)(xs), expected, rtol=0, atol=1e-13)
    assert not [w for w in recwarn if "performance drop" in str(w.message)]


def test_vmap_of_nothing_says_so() -> None:
    call = CALLS["causal_conv1d"]
    with pytest.raises(ValueError, match="vmap over causal_conv1d needs at least one sample"):
        vmap(call.function)(call.x[None][:0])


@pytest.mark.parametrize("name", ["causal_conv1d", "selective_scan", "directional_scan, windows"])
def test_jacobians_in_reverse(name: str) -> None:
    call = CALLS[name]

    def function(x: Tensor) -> Tensor:
        return call.function(torch.cat([x, call.x[:, 4:]], dim=1))

    x = call.x[:, :4]
    rows = [gradient(lambda x, i=i: function(x).flatten()[i], x) for i in (0, 7)]
    jacobian = jacrev(function)(x).flatten(0, 2)
    assert jacobian.shape == (function(x).numel(), *x.shape)
    for i, row in zip((0, 7), rows, strict=True):
        torch.testing.assert_close(jacobian[i], row, rtol=0, atol=1e-12)
    batched = torch.autograd.functional.jacobian(function, x, vectorize=True)
    torch.testing.assert_close(batched.flatten(0, 2), jacobian, rtol=0, atol=1e-12)


def dual(call: Call, requires_grad: bool) -> None:
    with forward_ad.dual_level():
        x = call.x.clone().requires_grad_(requires_grad)
        call.function(forward_ad.make_dual(x, torch.ones_like(x)))


FORWARD = {
    "jvp": lambda call: jvp(call.function, (call.x,), (call.x,)),
    "vmap of jvp": lambda call: vmap(lambda x: jvp(call.function, (x,), (x,)))(call.x[None]),
    "jvp of vmap": lambda call: jvp(vmap(call.function), (call.x[None],), (call.x[None],)),
    "jacfwd": lambda call: jacfwd(call.function)(call.x),
    "dual numbers": lambda call: dual(call, False),
    "dual numbers with a gradient": lambda call: dual(call, True),
    "functional": lambda call: torch.autograd.functional.jacobian(
        call.function, call.x, vectorize=True, strategy="forward-mode"
    ),
}


@every_op
@pytest.mark.parametrize("transform", FORWARD.values(), ids=FORWARD.keys())
def test_forward_mode_is_refused(call: Call, transform: Callable[[Call], object]) -> None:
    """It saw a constant."""
    with pytest.raises(NotImplementedError, match=REFUSED):
        transform(call)


@every_op
def test_forward_over_reverse_is_refused(call: Call) -> None:
    with pytest.raises(NotImplementedError, match=REFUSED):
        hessian(loss_of(call))(call.x)


def test_forward_mode_is_refused_in_compiled_code() -> None:
    call = CALLS["gather_tokens"]
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: jvp(call.function, (x,), (x,))[1], backend="aot_eager")
    with pytest.raises(Exception, match="gather_tokens has no forward-mode derivative"):
        compiled(call.x)
    torch._dynamo.reset()


@pytest.mark.parametrize("transform", FORWARD.values(), ids=FORWARD.keys())
def test_a_direct_call_of_the_op_is_refused(transform: Callable[[Call], object]) -> None:
    """As exported programs call it. The body sees a constant: torch.func unwraps before it."""
    x, tables = normal(BATCH, LENGTH, CHANNELS), random_orders(1, 2)
    op = torch.ops.mmquad.gather_tokens
    with pytest.raises(NotImplementedError, match=REFUSED):
        transform(Call(lambda x: op(x, *tables), x))
    # a constant beside what is differentiated
    value, tangent = jvp(lambda y: op(x, *tables) * y, (x[0, 0, 0],), (x[0, 0, 1],))
    assert torch.equal(tangent, op(x, *tables) * x[0, 0, 1])
    assert torch.equal(value, op(x, *tables) * x[0, 0, 0])


@every_op
def test_second_derivatives_are_right_or_refused(call: Call) -> None:
    loss, x = loss_of(call), call.x
    direction = normal(*x.shape, seed=2)

    def first(x: Tensor) -> Tensor:
        leaf = x.requires_grad_() if x.is_leaf else x
        return (torch.autograd.grad(loss(leaf), leaf, create_graph=True)[0] * direction).sum()

    def first_by_transform(x: Tensor) -> Tensor:
        return (grad(loss)(x) * direction).sum()

    if not call.linear:
        with pytest.raises(NotImplementedError, match=ENDS):
            gradient(first, x)
        with pytest.raises(NotImplementedError, match=ENDS):
            grad(first_by_transform)(x)
        return
    step = 1e-5
    ahead, behind = (gradient(loss, x + sign * step * direction) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close(gradient(first, x), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(grad(first_by_transform)(x), expected, rtol=1e-6, atol=1e-8)
