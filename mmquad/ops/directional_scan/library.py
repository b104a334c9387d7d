"""Registration with PyTorch: schema, shapes (fake), autograd, FLOP formula; and the backends.

Two ops, ``mmquad::directional_scan`` and ``mmquad::directional_scan_backward``. Arithmetic is in
float64 for float64 tokens and in float32 for anything narrower.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mmquad.ops.backend import Backend, BackendSet, no_reasons
from mmquad.ops.directional_scan.composed import Gradients, composed_backward, composed_forward
from mmquad.ops.directional_scan.cuda import (
    CHUNK as CUDA_CHUNK,
)
from mmquad.ops.directional_scan.cuda import (
    cuda_backward,
    cuda_forward,
    cuda_unavailable,
    cuda_unsupported,
)
from mmquad.ops.directional_scan.layout import narrow_tables, sizes_of
from mmquad.ops.directional_scan.native import (
    native_backward,
    native_forward,
    native_unsupported,
)
from mmquad.ops.directional_scan.triton_scan import (
    triton_backward,
    triton_forward,
    triton_unsupported,
)
from mmquad.ops.native import CHUNK, native_unavailable, suggest_native
from mmquad.ops.selective_scan.chunked import (
    selective_scan_backward_chunked,
    selective_scan_chunked,
)
from mmquad.ops.selective_scan.library import accumulation_dtype, selective_scan_flops
from mmquad.ops.selective_scan.mamba_ssm import (
    mamba_ssm_unavailable,
    mamba_ssm_unsupported,
    selective_scan_backward_mamba_ssm,
    selective_scan_mamba_ssm,
)
from mmquad.ops.selective_scan.reference import (
    selective_scan_backward_reference,
    selective_scan_reference,
)
from mmquad.ops.selective_scan.triton_launch import chunk_length
from mmquad.ops.triton import interpreting, triton_unavailable

__all__ = ["BACKENDS", "DirectionalBackend", "directional_scan_op"]


@dataclass(frozen=True)
class DirectionalBackend(Backend):
    """A backend and the number of tokens between two saved states; 0: it saves none. Or a function
    of the number of positions that gives it.

    ``forward(x, z, dt_weight, dt_bias, A, D_skip, tables, merge, states) -> y`` fills ``states``
    unless it is empty; ``backward(dy, <the same>) -> Gradients``. All but x are in the accumulation
    dtype. ``widens``: x must be, too. ``unsupported`` is asked with the tensors x, z, dt_weight, A,
    order and with merge.
    """

    chunk: int | Callable[[int], int] = 0
    widens: bool = True

    def chunk_of(self, positions: int) -> int:
        return self.chunk(positions) if callable(self.chunk) else self.chunk


def _mamba_ssm_unsupported(**inputs: Any) -> list[str]:
    x, A, order = inputs["x"], inputs["A"], inputs["order"]
    shape = (x.shape[0], A.shape[0] * x.shape[2], order.shape[2])
    return mamba_ssm_unsupported(u=x.new_empty(()).expand(shape), A=A.flatten(0, 1))


def _composed(
    name: str,
    priority: int,
    summary: str,
    scan: Callable[..., Any],
    scan_backward: Callable[..., Any],
    unavailable: Callable[[], list[str]] = no_reasons,
    unsupported: Callable[..., list[str]] = no_reasons,
) -> DirectionalBackend:
    def forward(*arguments: Any) -> Tensor:
        return composed_forward(scan, *arguments[:-1])

    def backward(*arguments: Any) -> Gradients:
        return composed_backward(scan, scan_backward, *arguments[:-1])

    return DirectionalBackend(name, priority, summary, forward, backward, unavailable, unsupported)


BACKENDS = BackendSet(
    "directional_scan",
    [
        DirectionalBackend(
            name="native",
            priority=30,
            summary="C++ with SIMD and threads (kernels/), cpu",
            forward=native_forward,
            backward=native_backward,
            unavailable=native_unavailable,
            unsupported=native_unsupported,
            chunk=CHUNK,
            widens=False,
        ),
        DirectionalBackend(
            name="triton",
            priority=20,
            summary="Triton, cuda and rocm, never run on a GPU yet",
            forward=triton_forward,
            backward=triton_backward,
            unavailable=triton_unavailable,
            unsupported=triton_unsupported,
            only_by_name=interpreting,
            chunk=chunk_length,
            widens=False,
        ),
        # Below Triton until somebody has measured both.
        DirectionalBackend(
            name="cuda",
            priority=15,
            summary="CUDA C++ (kernels/, compiled by nvcc), never run on a GPU yet",
            forward=cuda_forward,
            backward=cuda_backward,
            unavailable=cuda_unavailable,
            unsupported=cuda_unsupported,
            chunk=CUDA_CHUNK,
            widens=False,
        ),
        _composed(
            "chunked",
            10,
            "vectorised PyTorch, two-level chunks, any device",
            selective_scan_chunked,
            selective_scan_backward_chunked,
        ),
        _composed(
            "reference",
            0,
            "the equations token by token in PyTorch, any device; slow",
            selective_scan_reference,
            selective_scan_backward_reference,
        ),
        _composed(
            "mamba_ssm",
            -10,
            "PyTorch around the CUDA kernel of the package of that name, on request only",
            selective_scan_mamba_ssm,
            selective_scan_backward_mamba_ssm,
            mamba_ssm_unavailable,
            _mamba_ssm_unsupported,
        ),
    ],
)


def _backend(name: str) -> DirectionalBackend:
    backend = BACKENDS[name]
    assert isinstance(backend, DirectionalBackend)
    return backend


def _saved_states(
    x: Tensor, dt_weight: Tensor, A: Tensor, order: Tensor, backend: str, save_states: bool
) -> Tensor:
    sizes = sizes_of(x, dt_weight, A, order)
    chunk = _backend(backend).chunk_of(sizes.positions)
    dtype = accumulation_dtype(x)
    if not save_states or chunk == 0:
        return x.new_empty(0, dtype=dtype)
    chunks = -(-sizes.positions // chunk)
    shape = (sizes.batch, sizes.directions, chunks, sizes.states, sizes.channels)
    return x.new_empty(shape, dtype=dtype)


def _output_shape(x: Tensor, order: Tensor, merge: bool) -> tuple[int, ...]:
    batch, length, channels = x.shape
    return (batch, length, channels) if merge else (batch, order.shape[1], length, channels)


def _widened(backend: str, x: Tensor, *others: Tensor) -> list[Tensor]:
    dtype = accumulation_dtype(x)
    tokens = x.to(dtype) if _backend(backend).widens else x
    return [tokens.contiguous(), *(other.to(dtype) for other in others)]


@torch.library.custom_op("mmquad::directional_scan", mutates_args=())
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
) -> tuple[Tensor, Tensor]:
    """``y`` in the accumulation dtype, and the states that the gradient needs."""
    if x.device.type == "cpu" and backend == "chunked":
        suggest_native()
    tables = narrow_tables(order, inverse, window, weight)
    states = _saved_states(x, dt_weight, A, order, backend, save_states)
    with torch.autocast(x.device.type, enabled=False):
        inputs = _widened(backend, x, z, dt_weight, dt_bias, A, D_skip)
        return _backend(backend).forward(*inputs, tables, merge, states), states


@directional_scan_op.register_fake
def _directional_scan_fake(
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
) -> tuple[Tensor, Tensor]:
    y = x.new_empty(_output_shape(x, order, merge), dtype=accumulation_dtype(x))
    return y, _saved_states(x, dt_weight, A, order, backend, save_states)


@torch.library.custom_op("mmquad::directional_scan_backward", mutates_args=())
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first six inputs and of ``weight`` (empty without one), contiguous."""
    tables = narrow_tables(order, inverse, window, weight)
    with torch.autocast(x.device.type, enabled=False):
        inputs = _widened(backend, x, z, dt_weight, dt_bias, A, D_skip)
        upstream = dy.to(accumulation_dtype(x)).contiguous()
        gradients = _backend(backend).backward(upstream, *inputs, tables, merge, states)
        dweight = x.new_empty(0) if gradients.weight is None else gradients.weight
        templates = (x, z, dt_weight, dt_bias, A, D_skip, x if weight is None else weight)
        results = (*gradients[:-1], dweight)
        return tuple(  # type: ignore[return-value]
            result.to(template.dtype).contiguous()
            for result, template in zip(results, templates, strict=True)
        )


@directional_scan_backward_op.register_fake
def _directional_scan_backward_fake(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dweight = x.new_empty(0) if weight is None else weight.new_empty(weight.shape)
    inputs = (x, z, dt_weight, dt_bias, A, D_skip)
    return (*(i.new_empty(i.shape) for i in inputs), dweight)  # type: ignore[return-value]


def _setup_context(ctx, inputs, output) -> None:
    *tensors, merge, backend, save_states = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.merge = merge
    ctx.backend = backend
    ctx.can_differentiate = save_states


def _backward(ctx, dy: Tensor | None, dstates: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 13
    if not ctx.can_differentiate:
        raise RuntimeError(
            "mmquad::directional_scan was called with save_states=False and cannot be "
            "differentiated; call mmquad.ops.directional_scan, which decides that by itself"
        )
    *tensors, states = ctx.saved_tensors  # once: activation checkpointing refuses a second look
    *gradients, dweight = directional_scan_backward_op(dy, *tensors, ctx.merge, states, ctx.backend)
    weight = tensors[9]
    return (*gradients, None, None, None, None if weight is None else dweight, None, None, None)


directional_scan_op.register_autograd(_backward, setup_context=_setup_context)


def _register_flops() -> None:
    def formula(x, z, dt_weight, dt_bias, A, D_skip, order, *_, **__) -> int:
        batch, length, channels = x
        directions, _, states = A
        projection = 2 * batch * length * directions * channels * dt_weight[2]
        return projection + selective_scan_flops(
            batch, order[2], directions * channels, states, skip=True
        )

    register_flop_formula(torch.ops.mmquad.directional_scan)(formula)


_register_flops()
