"""How an op is run: at once where nobody watches, through PyTorch's dispatcher otherwise.

The causal convolution stands for all: they are made by the same functions.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mmquad.ops.causal_conv1d.library import causal_conv1d_op, run_causal_conv1d

WEIGHT = torch.tensor([[1.0, 2.0]])


def run(x: Tensor, weight: Tensor = WEIGHT, op: Callable = run_causal_conv1d) -> Tensor:
    """``y_t = x_{t-1} + 2 x_t`` of ``[1, L, 1]``."""
    return op(x, weight, None, False, False, "pytorch")


def ones(**options: Any) -> Tensor:
    return torch.ones(1, 3, 1, **options)


Y = torch.tensor([2.0, 3.0, 3.0])[None, :, None]
DX = torch.tensor([3.0, 3.0, 2.0])[None, :, None]


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every call of an op through the dispatcher."""
    calls: list[str] = []
    original = type(causal_conv1d_op).__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self._name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(causal_conv1d_op), "__call__", counted)
    return calls


@pytest.mark.parametrize("requires_grad", [False, True])
def test_plain_tensors_do_not_meet_the_dispatcher(requires_grad: bool, dispatched: list) -> None:
    x = ones(requires_grad=requires_grad)
    for tokens in (x, torch.nn.Parameter(ones()), ones().mT.contiguous().mT, x.expand(2, 3, 1)):
        y = run(tokens)
        assert torch.equal(y, Y.expand_as(y))
    assert run(x).requires_grad == requires_grad
    assert dispatched == []


def test_gradients_are_those_of_the_op(dispatched: list) -> None:
    x, weight = ones(requires_grad=True), WEIGHT.clone().requires_grad_()
    dx, dweight = torch.autograd.grad(run(x, weight).sum(), (x, weight))
    assert torch.equal(dx, DX)
    assert torch.equal(dweight, torch.tensor([[2.0, 3.0]]))
    (dx,) = torch.autograd.grad(run(x).sum(), x)  # of one input
    assert torch.equal(dx, DX)
    y = checkpoint(run, x, weight, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], DX)
    assert dispatched == []
    (dx,) = torch.autograd.grad(run(x, weight, causal_conv1d_op).sum(), x)
    assert torch.equal(dx, DX)
    assert dispatched == ["causal_conv1d"]


def test_second_derivatives_are_refused_as_ever() -> None:
    x = ones(requires_grad=True)
    (dx,) = torch.autograd.grad((run(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives end"):
        torch.autograd.grad(dx.sum(), x)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_recorded_where_none_is_wanted(context: Callable, dispatched: list) -> None:
    with context():
        y = run(ones(requires_grad=True))
        run(y)  # of an inference tensor
    assert not y.requires_grad
    assert dispatched == []


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _WatchFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Subclass(Tensor):
    pass


class _Module(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return run(x)


def _inside(context: Any) -> None:
    with context:
        run(ones())


def _batch_of_gradients() -> None:
    x = ones(requires_grad=True)
    upstream = torch.eye(3).view(3, 1, 3, 1)
    (rows,) = torch.autograd.grad(run(x), x, upstream, is_grads_batched=True)
    assert torch.equal(rows.sum(0), DX)


WATCHERS: dict[str, Callable[[], Any]] = {
    "a dispatch mode": lambda: _inside(_Watch()),
    "a function mode": lambda: _inside(_WatchFunctions()),
    "a FLOP counter": lambda: _inside(FlopCounterMode(display=False)),
    "a profiler": lambda: _inside(profile(activities=[ProfilerActivity.CPU])),
    "a subclass": lambda: run(ones().as_subclass(_Subclass)),
    "a subclass that comes later": lambda: run(ones(), WEIGHT.as_subclass(_Subclass)),
    "no data": lambda: run(ones().to("meta"), WEIGHT.to("meta")),
    "a trace": lambda: torch.jit.trace(run, ones(), check_trace=False),
    "vmap": lambda: torch.func.vmap(run)(ones()[None]),
    "grad": lambda: torch.func.grad(lambda x: run(x).sum())(ones()),
    "vmap of something else": lambda: torch.func.vmap(
        lambda x: x.sum() * run(ones(requires_grad=True))
    )(ones()),
    "a batch of gradients": _batch_of_gradients,
    "export": lambda: torch.export.export(_Module(), (ones(),)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*Profiler clears events")
@pytest.mark.parametrize("name", WATCHERS)
def test_who_watches_sees_the_op(name: str, dispatched: list) -> None:
    WATCHERS[name]()
    assert dispatched != []
