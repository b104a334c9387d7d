"""The public selective scan."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.selective_scan.library import (
    BACKENDS,
    accumulation_dtype,
    selective_scan_op,
)

__all__ = ["selective_scan"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    z: Tensor | None = None,
    return_last_state: bool = False,
    out_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective state-space scan (Mamba, arXiv:2312.00752, eq. 2), differentiable in every tensor.

    ``h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t`` and ``y_t = C_t h_t + D u_t``, from a zero
    state. A drop-in for ``mamba_ssm``'s ``selective_scan_fn`` with real A, arguments by keyword.

    The state is kept in float32 (float64 for float64 ``u``), also under autocast, whatever the
    input dtypes; they may differ from each other. Gradients are of first order and in reverse mode:
    a second derivative is an error, and forward-mode differentiation sees a constant.

    Args:
        u: Input ``[B, D, L]``. Token-major memory (a transposed ``[B, L, D]``) avoids a copy.
        delta: Step before bias and softplus, ``[B, D, L]``.
        A: ``[D, N]``, negative for a decaying state.
        B: ``[B, N, L]``, or ``[B, G, N, L]`` for G groups of D / G channels, or ``[D, N]``.
        C: Like ``B``.
        D: Skip weight ``[D]``.
        delta_bias: ``[D]``, added to ``delta``.
        delta_softplus: Apply softplus to ``delta`` (after the bias).
        z: Gate ``[B, D, L]``; the output is multiplied by ``silu(z)``.
        return_last_state: Also return ``h_L``, ``[B, D, N]``.
        out_dtype: Dtype of the output; that of ``u`` unless given.
        backend: Name of the implementation; see :mod:`mmquad.ops.backend`.

    Returns:
        ``y [B, D, L]`` in the memory layout of ``u``, or ``(y, h_L)``.

    Raises:
        ValueError: A shape, dtype or device does not fit, or the chosen backend cannot run.

    Example:
        >>> import torch
        >>> from mmquad.ops import selective_scan
        >>> u, delta = torch.randn(2, 8, 49), torch.randn(2, 8, 49)
        >>> B, C = torch.randn(2, 1, 49), torch.randn(2, 1, 49)
        >>> selective_scan(u, delta, -torch.ones(8, 1), B, C, delta_softplus=True).shape
        torch.Size([2, 8, 49])
    """
    _check_inputs(u, delta, A, D, delta_bias, z)
    if out_dtype is not None and not out_dtype.is_floating_point:
        raise ValueError(f"out_dtype must be real and floating point, got {out_dtype}")
    B, C = _grouped("B", B, u, A), _grouped("C", C, u, A)
    name = BACKENDS.select(backend, u=u, delta=delta, A=A, B=B, C=C, D=D, delta_bias=delta_bias)
    out_dtype = out_dtype or u.dtype
    # Rounded once, behind the gate: what it makes small may be beyond float16 before.
    dtype = out_dtype if z is None else accumulation_dtype(u)
    y, last_state = selective_scan_op(u, delta, A, B, C, D, delta_bias, delta_softplus, dtype, name)
    if z is not None:
        y = (y * F.silu(z.to(dtype))).to(out_dtype)
    return (y, last_state) if return_last_state else y


def _check_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    z: Tensor | None,
) -> None:
    if u.ndim != 3 or 0 in u.shape[1:]:
        raise ValueError(f"u must be [B, D, L] with D, L >= 1, got {tuple(u.shape)}")
    channels = u.shape[1]
    if A.ndim != 2 or A.shape[0] != channels or A.shape[1] < 1:
        raise ValueError(f"A must be [D, N] with D={channels}, N >= 1, got {tuple(A.shape)}")
    for name, tensor in {"delta": delta, "z": z}.items():
        if tensor is not None and tensor.shape != u.shape:
            raise ValueError(f"{name} must be {tuple(u.shape)} like u, got {tuple(tensor.shape)}")
    for name, tensor in {"D": D, "delta_bias": delta_bias}.items():
        if tensor is not None and tensor.shape != (channels,):
            raise ValueError(f"{name} must be [D]={(channels,)}, got {tuple(tensor.shape)}")
    tensors = {"u": u, "delta": delta, "A": A, "D": D, "delta_bias": delta_bias, "z": z}
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} must be real and floating point, got {tensor.dtype}")
        if tensor is not None and tensor.device != u.device:
            raise ValueError(
                f"all tensors must be on {u.device} like u, got {name} on {tensor.device}"
            )


def _grouped(name: str, tensor: Tensor, u: Tensor, A: Tensor) -> Tensor:
    """``[B, N, L]``, ``[B, G, N, L]`` or ``[D, N]`` -> ``[B, G, N, L]``, checked."""
    batch, channels, length = u.shape
    state = A.shape[1]
    if not tensor.is_floating_point() or tensor.device != u.device:
        raise ValueError(
            f"{name} must be real, floating point and on {u.device}, "
            f"got {tensor.dtype} on {tensor.device}"
        )
    if tensor.shape == (channels, state):
        return tensor[None, :, :, None].expand(batch, channels, state, length)
    grouped = tensor[:, None] if tensor.ndim == 3 else tensor
    expected = (batch, state, length)
    if (
        grouped.ndim != 4
        or (grouped.shape[0], *grouped.shape[2:]) != expected
        or grouped.shape[1] < 1
        or channels % grouped.shape[1]
    ):
        raise ValueError(
            f"{name} must be [B, N, L]={expected}, [B, G, N, L] with G dividing D={channels}, "
            f"or [D, N]={(channels, state)}; got {tuple(tensor.shape)}"
        )
    return grouped
