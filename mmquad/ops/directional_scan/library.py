"""Registration with PyTorch: schema, shapes (fake), autograd, FLOP formula.

Two ops, ``mmquad::directional_scan`` and ``mmquad::directional_scan_backward``. Arithmetic is in
float64 for float64 tokens and in float32 for anything narrower. New arguments come last, with a
default: files of exported programs call the op as it was.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mmquad.ops.costs import register_flops
from mmquad.ops.differentiation import define, differentiable, fake_of, first_derivatives_only
from mmquad.ops.directional_scan.backends import BACKENDS, DirectionalBackend
from mmquad.ops.directional_scan.layout import narrow_tables, sizes_of
from mmquad.ops.native import suggest_native
from mmquad.ops.selective_scan.library import accumulation_dtype

__all__ = ["directional_scan_op", "run_directional_scan"]


def _backend(name: str) -> DirectionalBackend:
    backend = BACKENDS[name]
    assert isinstance(backend, DirectionalBackend)
    return backend


def _states_shape(
    x: Tensor, dt_weight: Tensor, A: Tensor, order: Tensor, backend: str
) -> tuple[int, ...]:
    """``[B, K, chunks, N, D]``, without chunks for a backend that saves none."""
    sizes = sizes_of(x, dt_weight, A, order)
    chunk = _backend(backend).chunk_of(sizes.positions)
    chunks = -(-sizes.positions // chunk) if chunk else 0
    return sizes.batch, sizes.directions, chunks, sizes.states, sizes.channels


def _saved_states(
    x: Tensor, dt_weight: Tensor, A: Tensor, order: Tensor, backend: str, save_states: bool
) -> Tensor:
    """Memory for the states, flat: a compiled graph would be tied to there being one chunk."""
    shape = _states_shape(x, dt_weight, A, order, backend)
    return x.new_empty(math.prod(shape) if save_states else 0, dtype=accumulation_dtype(x))


def _in_shape(states: Tensor, shape: tuple[int, ...]) -> Tensor:
    return states.view(shape) if states.numel() == math.prod(shape) else states


def _output_shape(x: Tensor, order: Tensor, merge: bool) -> tuple[int, ...]:
    batch, length, channels = x.shape
    return (batch, length, channels) if merge else (batch, order.shape[1], length, channels)


def _widened(backend: str, x: Tensor, *others: Tensor) -> list[Tensor]:
    dtype = accumulation_dtype(x)
    tokens = x.to(dtype) if _backend(backend).widens else x
    return [tokens.contiguous(), *(other.to(dtype) for other in others)]


def _given(x: Tensor, initial_state: Tensor | None) -> list[Tensor]:
    """The argument that backends take only where there is one."""
    return [] if initial_state is None else [initial_state.to(accumulation_dtype(x))]


@define("directional_scan")
def directional_scan_op(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None,
    weight: Tensor | None,
    merge: bool,
    backend: str,
    save_states: bool,
    initial_state: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """``y`` in the accumulation dtype or ``out_dtype``, and the states that the gradient needs."""
    if x.device.type == "cpu" and backend == "chunked":
        suggest_native()
    tables = narrow_tables(order, inverse, window, weight)
    states = _saved_states(x, dt_weight, A, order, backend, save_states)
    chunks = _in_shape(states, _states_shape(x, dt_weight, A, order, backend))
    with torch.autocast(x.device.type, enabled=False):
        inputs = _widened(backend, x, z, dt_weight, dt_bias, A, D_skip)
        entering = _given(x, initial_state)
        y = _backend(backend).forward(*inputs, tables, merge, chunks, *entering)
        return y.to(out_dtype or y.dtype), states


@fake_of(directional_scan_op)
def _fake(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None,
    weight: Tensor | None,
    merge: bool,
    backend: str,
    save_states: bool,
    initial_state: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    y = x.new_empty(_output_shape(x, order, merge), dtype=out_dtype or accumulation_dtype(x))
    return y, _saved_states(x, dt_weight, A, order, backend, save_states)


@define("directional_scan_backward")
def directional_scan_backward_op(
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None,
    weight: Tensor | None,
    merge: bool,
    states: Tensor,
    backend: str,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first six inputs, of ``weight`` and of the initial state, contiguous.

    The last two are empty for inputs not given.
    """
    tables = narrow_tables(order, inverse, window, weight)
    chunks = _in_shape(states, _states_shape(x, dt_weight, A, order, backend))
    with torch.autocast(x.device.type, enabled=False):
        inputs = _widened(backend, x, z, dt_weight, dt_bias, A, D_skip)
        upstream = dy.to(accumulation_dtype(x)).contiguous()
        gradients = _backend(backend).backward(
            upstream, *inputs, tables, merge, chunks, *_given(x, initial_state)
        )
        templates = (x, z, dt_weight, dt_bias, A, D_skip, weight, initial_state)
        return tuple(  # type: ignore[return-value]
            x.new_empty(0) if template is None else gradient.to(template.dtype).contiguous()
            for gradient, template in zip(gradients, templates, strict=True)
        )


@fake_of(directional_scan_backward_op)
def _backward_fake(
    dy: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, weight = arguments[0], arguments[9]
    initial_state = arguments[13] if len(arguments) > 13 else None
    return tuple(  # type: ignore[return-value]
        x.new_empty(0) if template is None else template.new_empty(template.shape)
        for template in (*arguments[:6], weight, initial_state)
    )


_run_backward = first_derivatives_only(directional_scan_backward_op)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.merge, ctx.backend, ctx.can_differentiate, initial_state, _ = inputs
    ctx.save_for_backward(*tensors, output[1], initial_state)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, dy: Tensor | None, dstates: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 15
    if not ctx.can_differentiate:
        raise RuntimeError(
            "mmquad::directional_scan was called with save_states=False and cannot be "
            "differentiated; call mmquad.ops.directional_scan, which decides that by itself"
        )
    # Once: activation checkpointing refuses a second look.
    *tensors, states, initial_state = ctx.saved_tensors
    *gradients, dweight, dinitial = _run_backward(
        dy, *tensors, ctx.merge, states, ctx.backend, initial_state
    )
    return (
        *gradients,
        *(None, None, None),
        None if tensors[9] is None else dweight,
        *(None, None, None),
        None if initial_state is None else dinitial,
        None,
    )


run_directional_scan = differentiable(directional_scan_op, _setup_context, _backward)
register_flops(directional_scan_op, directional_scan_backward_op, upstream=1)
