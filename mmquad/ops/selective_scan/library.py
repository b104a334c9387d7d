"""Registration with PyTorch: schema, shapes (fake), autograd, FLOP formula.

Two ops: ``mmquad::selective_scan`` and ``mmquad::selective_scan_backward``. Both run whatever
backend their ``backend`` argument names; the public function has resolved ``auto`` before. All
arithmetic is in float64 for float64 ``u`` and in float32 for anything narrower. New arguments come
last, with a default: files of exported programs call the op as it was.
"""

from typing import Any

import torch
from torch import Tensor

from mmquad.ops.costs import register_flops
from mmquad.ops.differentiation import define, differentiable, fake_of, first_derivatives_only
from mmquad.ops.native import suggest_native
from mmquad.ops.selective_scan.backends import BACKENDS

__all__ = [
    "accumulation_dtype",
    "run_selective_scan",
    "selective_scan_op",
]


def accumulation_dtype(tokens: Tensor) -> torch.dtype:
    """What both scans compute in, whatever the dtype of the tokens."""
    return torch.float64 if tokens.dtype == torch.float64 else torch.float32


def _without_autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _widen(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _given(dtype: torch.dtype, initial_state: Tensor | None) -> list[Tensor]:
    """The argument that backends take only where there is one."""
    return [] if initial_state is None else [initial_state.to(dtype)]


def _like(value: Tensor, template: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``value`` in the memory layout and (unless given) dtype of ``template``, as fakes promise."""
    result = torch.empty_like(template, dtype=dtype)  # costs nothing while nobody writes to it
    if (value.dtype, value.stride()) == (result.dtype, result.stride()):
        return value
    return result.copy_(value)


@define("selective_scan")
def selective_scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    out_dtype: torch.dtype,
    backend: str,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``y`` in ``out_dtype`` and the last state in the accumulation dtype."""
    if u.device.type == "cpu" and backend == "chunked":
        suggest_native()
    dtype = accumulation_dtype(u)
    with _without_autocast(u.device):
        inputs = _widen(dtype, u, delta, A, B, C, D, delta_bias)
        y, last = BACKENDS[backend].forward(*inputs, delta_softplus, *_given(dtype, initial_state))
        return _like(y, u, out_dtype), last


@fake_of(selective_scan_op)
def _fake(u: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    A, out_dtype = arguments[1], arguments[7]
    last = u.new_empty(u.shape[0], *A.shape, dtype=accumulation_dtype(u))
    return torch.empty_like(u, dtype=out_dtype), last


@define("selective_scan_backward")
def selective_scan_backward_op(
    dy: Tensor,
    dlast: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the tensors from u on, in their layouts. Meaningless for absent ones."""
    dtype = accumulation_dtype(u)
    templates = _gradient_templates(u, delta, A, B, C, D, delta_bias, initial_state)
    with _without_autocast(u.device):
        inputs = _widen(dtype, dy, dlast, u, delta, A, B, C, D, delta_bias)
        entering = _given(dtype, initial_state)
        gradients = BACKENDS[backend].backward(*inputs, delta_softplus, *entering)
        if initial_state is None:
            gradients = (*gradients, templates[-1])
        return tuple(map(_like, gradients, templates))  # type: ignore[return-value]


@fake_of(selective_scan_backward_op)
def _backward_fake(
    dy: Tensor, dlast: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    initial_state = arguments[9] if len(arguments) > 9 else None
    u, delta, A, B, C, D, delta_bias = arguments[:7]
    templates = _gradient_templates(u, delta, A, B, C, D, delta_bias, initial_state)
    return tuple(map(torch.empty_like, templates))  # type: ignore[return-value]


def _gradient_templates(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
) -> list[Tensor]:
    """Tensors with the shapes, dtypes and layouts of the gradients, of absent inputs too."""
    per_channel = A.new_empty(u.shape[1])
    return [
        u,
        delta,
        A,
        B,
        C,
        per_channel if D is None else D,
        per_channel if delta_bias is None else delta_bias,
        A.new_empty(0) if initial_state is None else initial_state,
    ]


_run_backward = first_derivatives_only(selective_scan_backward_op)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.delta_softplus, _, ctx.backend, initial_state = inputs
    ctx.save_for_backward(*tensors, initial_state)


def _backward(ctx, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, initial_state = ctx.saved_tensors
    gradients = _run_backward(dy, dlast, *tensors, ctx.delta_softplus, ctx.backend, initial_state)
    present = [
        None if tensor is None else gradient
        for tensor, gradient in zip((*tensors, initial_state), gradients, strict=True)
    ]
    return (*present[:-1], None, None, None, present[-1])


run_selective_scan = differentiable(selective_scan_op, _setup_context, _backward)
register_flops(selective_scan_op, selective_scan_backward_op, upstream=2)
