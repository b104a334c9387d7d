"""Registration with PyTorch: schema, shapes (fake), autograd, FLOP formula; and the backends.

Two ops: ``mmquad::selective_scan`` and ``mmquad::selective_scan_backward``. Both run whatever
backend their ``backend`` argument names; the public function has resolved ``auto`` before. All
arithmetic is in float64 for float64 ``u`` and in float32 for anything narrower.
"""

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mmquad.ops.backend import Backend, BackendSet
from mmquad.ops.native import native_unavailable, suggest_native
from mmquad.ops.selective_scan.chunked import (
    selective_scan_backward_chunked,
    selective_scan_chunked,
)
from mmquad.ops.selective_scan.mamba_ssm import (
    mamba_ssm_unavailable,
    mamba_ssm_unsupported,
    selective_scan_backward_mamba_ssm,
    selective_scan_mamba_ssm,
)
from mmquad.ops.selective_scan.native import (
    native_unsupported,
    selective_scan_backward_native,
    selective_scan_native,
)
from mmquad.ops.selective_scan.reference import (
    selective_scan_backward_reference,
    selective_scan_reference,
)
from mmquad.ops.selective_scan.triton_scan import (
    selective_scan_backward_triton,
    selective_scan_triton,
    triton_unsupported,
)
from mmquad.ops.triton import interpreting, triton_unavailable

__all__ = ["BACKENDS", "accumulation_dtype", "selective_scan_flops", "selective_scan_op"]


BACKENDS = BackendSet(
    "selective_scan",
    [
        Backend(
            name="native",
            priority=30,
            summary="C++ with SIMD and threads (kernels/), cpu",
            forward=selective_scan_native,
            backward=selective_scan_backward_native,
            unavailable=native_unavailable,
            unsupported=native_unsupported,
        ),
        Backend(
            name="triton",
            priority=20,
            summary="Triton, cuda and rocm, never run on a GPU yet",
            forward=selective_scan_triton,
            backward=selective_scan_backward_triton,
            unavailable=triton_unavailable,
            unsupported=triton_unsupported,
            only_by_name=interpreting,
        ),
        Backend(
            name="chunked",
            priority=10,
            summary="vectorised PyTorch, two-level chunks, any device",
            forward=selective_scan_chunked,
            backward=selective_scan_backward_chunked,
        ),
        Backend(
            name="reference",
            priority=0,
            summary="the equations token by token in PyTorch, any device; slow",
            forward=selective_scan_reference,
            backward=selective_scan_backward_reference,
        ),
        Backend(
            name="mamba_ssm",
            priority=-10,
            summary="CUDA kernel of the package of that name, on request only",
            forward=selective_scan_mamba_ssm,
            backward=selective_scan_backward_mamba_ssm,
            unavailable=mamba_ssm_unavailable,
            unsupported=mamba_ssm_unsupported,
        ),
    ],
)


def accumulation_dtype(tokens: Tensor) -> torch.dtype:
    """What both scans compute in, whatever the dtype of the tokens."""
    return torch.float64 if tokens.dtype == torch.float64 else torch.float32


def _without_autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _widen(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _like(value: Tensor, template: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``value`` in the memory layout and (unless given) dtype of ``template``, as fakes promise."""
    result = torch.empty_like(template, dtype=dtype)  # costs nothing while nobody writes to it
    if (value.dtype, value.stride()) == (result.dtype, result.stride()):
        return value
    return result.copy_(value)


@torch.library.custom_op("mmquad::selective_scan", mutates_args=())
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
) -> tuple[Tensor, Tensor]:
    if u.device.type == "cpu" and backend == "chunked":
        suggest_native()
    dtype = accumulation_dtype(u)
    with _without_autocast(u.device):
        inputs = _widen(dtype, u, delta, A, B, C, D, delta_bias)
        y, last = BACKENDS[backend].forward(*inputs, delta_softplus)
        return _like(y, u, out_dtype), last


@selective_scan_op.register_fake
def _selective_scan_fake(
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
) -> tuple[Tensor, Tensor]:
    batch, channels, _ = u.shape
    last = u.new_empty(batch, channels, A.shape[1], dtype=accumulation_dtype(u))
    return torch.empty_like(u, dtype=out_dtype), last


@torch.library.custom_op("mmquad::selective_scan_backward", mutates_args=())
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = accumulation_dtype(u)
    with _without_autocast(u.device):
        inputs = _widen(dtype, dy, dlast, u, delta, A, B, C, D, delta_bias)
        gradients = BACKENDS[backend].backward(*inputs, delta_softplus)
        # D and delta_bias may be absent; their gradients are then dropped by the caller.
        du, ddelta, dA, dB, dC, dD, dbias = gradients
        return (
            _like(du, u),
            _like(ddelta, delta),
            _like(dA, A),
            _like(dB, B),
            _like(dC, C),
            _like(dD, A.new_empty(u.shape[1]) if D is None else D),
            _like(dbias, A.new_empty(u.shape[1]) if delta_bias is None else delta_bias),
        )


@selective_scan_backward_op.register_fake
def _selective_scan_backward_fake(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    per_channel = A.new_empty(u.shape[1])
    dD = per_channel if D is None else torch.empty_like(D)
    dbias = torch.empty_like(per_channel if delta_bias is None else delta_bias)
    return (
        torch.empty_like(u),
        torch.empty_like(delta),
        torch.empty_like(A),
        torch.empty_like(B),
        torch.empty_like(C),
        dD,
        dbias,
    )


def _setup_context(ctx, inputs, output) -> None:
    u, delta, A, B, C, D, delta_bias, delta_softplus, _, backend = inputs
    ctx.save_for_backward(u, delta, A, B, C, D, delta_bias)
    ctx.delta_softplus = delta_softplus
    ctx.backend = backend


def _backward(ctx, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
    u, delta, A, B, C, D, delta_bias = ctx.saved_tensors
    du, ddelta, dA, dB, dC, dD, dbias = selective_scan_backward_op(
        dy, dlast, u, delta, A, B, C, D, delta_bias, ctx.delta_softplus, ctx.backend
    )
    return (
        du,
        ddelta,
        dA,
        dB,
        dC,
        None if D is None else dD,
        None if delta_bias is None else dbias,
        None,
        None,
        None,
    )


selective_scan_op.register_autograd(_backward, setup_context=_setup_context)


def selective_scan_flops(batch: int, length: int, channels: int, state: int, skip: bool) -> int:
    """Elementary operations of one scan, ``9 B L D N`` plus ``B L D`` for the skip term.

    The convention of the VMamba and QuadMamba papers, whichever backend runs.
    """
    return 9 * batch * length * channels * state + (batch * length * channels if skip else 0)


def _register_flops() -> None:
    def formula(u_shape, delta_shape, A_shape, B_shape, C_shape, D_shape, *args, **kwargs) -> int:
        batch, channels, length = u_shape
        return selective_scan_flops(batch, length, channels, A_shape[1], D_shape is not None)

    register_flop_formula(torch.ops.mmquad.selective_scan)(formula)


_register_flops()
