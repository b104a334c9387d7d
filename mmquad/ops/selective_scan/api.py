"""The public selective scan, and the same with the arguments of mamba_ssm."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.selective_scan.backends import BACKENDS
from mmquad.ops.selective_scan.library import accumulation_dtype, run_selective_scan

__all__ = ["selective_scan", "selective_scan_fn"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    z: Tensor | None = None,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    out_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective state-space scan (Mamba, arXiv:2312.00752, eq. 2), differentiable in every tensor.

    ``h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t`` and ``y_t = C_t h_t + D u_t``, for real A.
    :func:`selective_scan_fn` takes the same in ``mamba_ssm``'s order.

    The state is kept in float32 (float64 for float64 ``u``), also under autocast, whatever the
    input dtypes; they may differ from each other. Gradients are of first order and in reverse mode,
    under ``torch.func`` too; second derivatives and forward mode are errors (docs/modes.md).

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
        initial_state: ``h_0``, ``[B, D, N]``: what ``return_last_state`` gave for the tokens before
            these. Zeros unless given.
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
    _check_inputs(u, delta, A, D, delta_bias, z, initial_state)
    if out_dtype is not None and not out_dtype.is_floating_point:
        raise ValueError(f"out_dtype must be real and floating point, got {out_dtype}")
    B, C = _grouped("B", B, u, A), _grouped("C", C, u, A)
    inputs = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    name = BACKENDS.select(backend, **inputs, initial_state=initial_state)
    out_dtype = out_dtype or u.dtype
    # Rounded once, behind the gate: what it makes small may be beyond float16 before.
    dtype = out_dtype if z is None else accumulation_dtype(u)
    options = (delta_softplus, dtype, name, initial_state)
    y, last_state = run_selective_scan(*inputs.values(), *options)
    if z is not None:
        y = (y * F.silu(z.to(dtype))).to(out_dtype)
    return (y, last_state) if return_last_state else y


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`selective_scan` as ``mamba_ssm.ops.selective_scan_interface.selective_scan_fn``.

    Arguments in that order, the output in the dtype of ``u``, the last state ``[B, D, N]`` in
    float32. Unlike there, the state can be differentiated, and A, B and C must be real.

    Raises:
        ValueError: A shape, dtype or device does not fit, A, B or C is complex, or the backend
            chosen by :func:`~mmquad.ops.use_backend` cannot run.

    Example:
        >>> import torch
        >>> from mmquad.ops import selective_scan_fn
        >>> u, delta, z = torch.randn(3, 2, 8, 49)
        >>> A, (B, C) = -torch.ones(8, 4), torch.randn(2, 2, 4, 49)
        >>> D, bias = torch.ones(8), torch.zeros(8)
        >>> y, last = selective_scan_fn(u, delta, A, B, C, D, z, bias, True, True)
        >>> y.shape, last.shape
        (torch.Size([2, 8, 49]), torch.Size([2, 8, 4]))
    """
    return selective_scan(
        u,
        delta,
        A,
        B,
        C,
        D,
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
        z=z,
        return_last_state=return_last_state,
    )


def _check_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    z: Tensor | None,
    initial_state: Tensor | None,
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
    expected = (u.shape[0], channels, A.shape[1])
    if initial_state is not None and initial_state.shape != expected:
        raise ValueError(
            f"initial_state must be [B, D, N]={expected}, got {tuple(initial_state.shape)}"
        )
    tensors = {"u": u, "delta": delta, "A": A, "D": D, "delta_bias": delta_bias, "z": z}
    for name, tensor in {**tensors, "initial_state": initial_state}.items():
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
