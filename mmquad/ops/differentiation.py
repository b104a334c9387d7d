"""Gradients of ops, right or refused under every transform of PyTorch.

``torch.library.custom_op`` alone leaves three gaps: forward-mode differentiation takes the op for a
constant and says nothing, ``torch.func.grad`` and what is built on it refuse its gradient, and
``torch.vmap`` warns that it is slow. Here tangents are refused, also by what ``torch.ops.mmquad``
holds; ``vmap`` runs one sample after the other; and transforms of ``torch.func`` see a
``torch.autograd.Function`` around the op instead of the op, in the functions that
:func:`differentiable` returns. Where nothing has to see the op, these run its body at once: the way
through the dispatcher and ``register_autograd`` takes longer than many a small layer.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._library.autograd import make_autograd_impl
from torch.autograd import forward_ad

__all__ = ["define", "differentiable", "fake_of", "first_derivatives_only", "wants_gradient"]

_LIBRARY = torch.library.Library("mmquad", "FRAGMENT")


def define(name: str) -> Callable[[Callable[..., Any]], Any]:
    """``torch.library.custom_op`` in this package's namespace, which refuses tangents."""

    def decorate(body: Callable[..., Any]) -> Any:
        op = torch.library.custom_op(f"mmquad::{name}", body, mutates_args=())
        # Tangents are seen where autograd is: torch.func has taken them off before the body. Keys
        # of devices come before `Autograd`, where custom_op has put the same without the check.
        kernel = _without_tangents(name, make_autograd_impl(op._opoverload, op))
        for key in ("AutogradCPU", "AutogradCUDA"):
            _LIBRARY.impl(name, kernel, key, with_keyset=True)
        return op

    return decorate


def fake_of(op: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``op.register_fake``, which refuses tangents: compiled code never runs the op's own body."""
    return lambda body: op.register_fake(_without_tangents(op._name, body))


def _without_tangents(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if any(map(_has_tangent, (*args, *kwargs.values()))):
            _refuse_forward_mode(name)
        return function(*args, **kwargs)

    return checked


def _has_tangent(value: Any) -> bool:
    if not isinstance(value, Tensor):
        return False
    try:
        return forward_ad.unpack_dual(value).tangent is not None
    except RuntimeError:
        # Inside a forward-mode transform, and of a kind that cannot be looked into: a batch of vmap
        # or a fake. Better refused without need than dropped.
        return True


def _refuse_forward_mode(name: str) -> None:
    """Tangents would be dropped in silence, and a derivative be wrong by what they carry."""
    raise NotImplementedError(
        f"mmquad: {name} has no forward-mode derivative (torch.func.jvp, jacfwd, hessian, "
        "torch.autograd.forward_ad); use reverse mode: torch.func.grad, vjp, jacrev"
    )


def differentiable(
    op: Any, setup_context: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Register an op's gradient, and return the function to call in its place.

    Args:
        op: What ``torch.library.custom_op`` made.
        setup_context: ``(ctx, inputs, output)``, as for ``torch.library.register_autograd``.
        backward: ``(ctx, *gradients)``; calls other ops through what this function returned for
            them.

    Returns:
        A function of the op's arguments, all positional. It raises NotImplementedError where a
        tensor carries a tangent.
    """
    op.register_autograd(backward, setup_context=setup_context)
    op.register_vmap(functools.partial(_one_sample_after_the_other, op))
    name = op._name

    body = op._init_fn

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return body(*args)

    class Transformed(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*args: Any) -> Any:
            return op(*args)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> None:
            _refuse_forward_mode(name)

    for function in (Eager, Transformed):
        function.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
        function.backward = staticmethod(backward)  # type: ignore[method-assign]

    @functools.wraps(body)
    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*args)
        if _nobody_watches() and _are_plain(args):
            differentiated = torch.is_grad_enabled() and any(map(_requires_grad, args))
            return (Eager.apply if differentiated else body)(*args)
        if any(map(_has_tangent, args)):
            _refuse_forward_mode(name)
        return (Transformed.apply if torch._C._are_functorch_transforms_active() else op)(*args)

    return call


def _nobody_watches() -> bool:
    """Whether an op may be run without PyTorch's dispatcher, whose way costs more than many a small
    layer: no mode, transform, trace, tangent or profile has to see it."""
    return (
        torch._C._len_torch_dispatch_stack() == 0
        and torch._C._len_torch_function_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and not torch.autograd._profiler_enabled()
    )


_met: set[int] = set()  # sets of keys, of plain tensors; each names its kind of device


def _are_plain(values: tuple[Any, ...]) -> bool:
    """Whether tensors are of no other kind than most: not of a subclass that wants to see the op,
    not batches, not without data."""
    for value in values:
        if isinstance(value, Tensor):
            if type(value) not in (Tensor, torch.nn.Parameter):
                return False
            keys = torch._C._dispatch_keys(value).raw_repr()
            if keys not in _met:
                if keys not in _plain_keys(value.device.type):
                    return False
                _met.add(keys)
    return True


@functools.cache
def _plain_keys(device_type: str) -> frozenset[int]:
    if device_type == "meta":
        return frozenset()
    keys = []
    for inference in (False, True):
        with torch.inference_mode(inference):
            tensor = torch.empty(0, device=device_type)
            keys.append(torch._C._dispatch_keys(tensor).raw_repr())
    return frozenset(keys)


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether any may be differentiated: under transforms of ``torch.func`` nobody can tell."""
    if any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return True
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def first_derivatives_only(op: Any) -> Callable[..., Any]:
    """:func:`differentiable` for an op that computes gradients and has none of its own."""

    def backward(ctx: Any, *gradients: Tensor | None) -> None:
        raise NotImplementedError(
            f"mmquad: second derivatives end at {op._name}; take the first without create_graph"
        )

    return differentiable(op, lambda ctx, inputs, output: None, backward)


def _one_sample_after_the_other(
    op: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[Any, Any]:
    """The rule of ``vmap``: results stacked along a new first axis.

    Raises:
        ValueError: There is no sample.
    """
    if info.batch_size == 0:
        raise ValueError(f"mmquad: vmap over {op._name} needs at least one sample, got 0")
    results = [
        op(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])
