"""The public fused op."""

import torch
from torch import Tensor

from mmquad.ops.differentiation import wants_gradient
from mmquad.ops.directional_scan.backends import BACKENDS
from mmquad.ops.directional_scan.layout import sizes_of
from mmquad.ops.directional_scan.library import run_directional_scan

__all__ = ["directional_scan"]


def directional_scan(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor | None,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    merge: bool = True,
    initial_state: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor:
    """Scan tokens along K directions and add the results up, in one op.

    For every direction k, with ``t = order[k, p]`` the token at position p and ``rank_t``, ``B_t``,
    ``C_t`` the columns of z that belong to token t and direction k::

        delta = softplus(dt_weight[k] rank_t + dt_bias[k])
        h_p   = exp(delta A[k]) h_{p-1} + delta B_t x_t
        y_t  += C_t h_p + D_skip[k] x_t

    z depends on the token alone, so one matrix product gives it for all directions before any
    reordering. Tables are those of :mod:`mmquad.ops.tokens`: fixed orders ``[1, K, P]``; or coarse
    and fine orders ``[2, K, L]``, between which ``weight`` chooses for each sample and window,
    with its exact straight-through gradient.

    Every direction reads every token once. Fixed orders may have more positions than that, P > L,
    and -1 at those that are empty: there x = 0 and z = 0, so the state decays by
    ``exp(softplus(dt_bias) A)`` and nothing enters, and no token receives the result. Empty
    positions at the end of a direction change nothing.

    States are float32 (float64 for float64 tokens), also under autocast. The gradient keeps x, z
    and one state in every 64 tokens. It is deterministic on every backend but mamba_ssm, of first
    order and in reverse mode, under ``torch.func`` too; second derivatives and forward mode are
    errors (docs/modes.md).

    Args:
        x: Tokens, channels last, ``[B, L, D]``.
        z: Projections, ``[B, L, K (R + 2 N)]``; or ``[B, L, K (R + N)]`` without C, which then
            is 1: with one state, the states themselves are the result.
        dt_weight: From ranks to step sizes, ``[K, D, R]``.
        dt_bias: ``[K, D]``.
        A: ``[K, D, N]``, negative for a decaying state.
        D_skip: ``[K, D]``; None for a scan without it.
        order: Token read at each position, ``[1, K, P]`` or ``[2, K, L]``. Like the other tables
            int32, half the bytes to read, or int64, which each call converts.
        inverse: Position at which each token is read, ``[1, K, L]`` or ``[2, K, L]``.
        window: With two orders, the window of every token, ``[L]``.
        weight: With two orders, 1 for windows read finely and 0 for others, ``[B, Q]``.
        merge: Sum over the directions; False returns each one's result, fixed orders only.
        initial_state: State before each direction's first position, ``[B, K, D, N]``; zeros unless
            given.
        out_dtype: Dtype of the output, rounded to once, when all directions are summed: for a layer
            in 16 bits whose next step takes 16 bits. A y beyond float16's 65504 becomes infinite
            there; bfloat16 has float32's range.
        backend: Name of the implementation; see :mod:`mmquad.ops.backend`.

    Returns:
        ``y [B, L, D]``, or ``[B, K, L, D]`` unmerged, in ``out_dtype``; unless given, float64 for
        float64 tokens, else float32.

    Raises:
        ValueError: A shape, dtype or device does not fit, or the chosen backend cannot run.
        RuntimeError: A table does not read every token once. Only ``native`` looks; elsewhere the
            values of tables are the caller's duty.

    Example:
        >>> import torch
        >>> from mmquad.ops import directional_scan
        >>> from mmquad.scans import CrossScan
        >>> order, inverse = CrossScan().tables(7, 7, torch.device("cpu"))
        >>> x, z = torch.randn(2, 49, 8), torch.randn(2, 49, 4 * (3 + 2))
        >>> dt_weight, A = torch.randn(4, 8, 3), -torch.ones(4, 8, 1)
        >>> bias, skip = torch.zeros(4, 8), torch.ones(4, 8)
        >>> directional_scan(x, z, dt_weight, bias, A, skip, order, inverse).shape
        torch.Size([2, 49, 8])
    """
    if D_skip is None:
        D_skip = torch.zeros_like(dt_bias)
    if z.ndim == 3 and A.ndim == dt_weight.ndim == 3:
        z = _with_readout(z, A.shape[0], A.shape[2], dt_weight.shape[2])
    tensors = {"z": z, "dt_weight": dt_weight, "dt_bias": dt_bias, "A": A, "D_skip": D_skip}
    _check(x, tensors, order, inverse, window, weight, initial_state)
    if out_dtype is not None and not out_dtype.is_floating_point:
        raise ValueError(f"out_dtype must be real and floating point, got {out_dtype}")
    if not merge and window is not None:
        raise ValueError("merge=False takes fixed orders only; drop window and weight, or merge")
    looked_at = {"x": x, "z": z, "dt_weight": dt_weight, "A": A, "order": order, "merge": merge}
    name = BACKENDS.select(backend, **looked_at, initial_state=initial_state)
    differentiable = (x, *tensors.values(), weight, initial_state)
    # A trace is checked by another one without gradients: both must save the same.
    recording = torch.is_grad_enabled() or torch.jit.is_tracing()
    save_states = recording and wants_gradient(*differentiable)
    inputs = (x, z, dt_weight, dt_bias, A, D_skip, order, inverse, window, weight)
    options = (merge, name, save_states, initial_state, out_dtype)
    return run_directional_scan(*inputs, *options)[0]


def _with_readout(z: Tensor, directions: int, states: int, ranks: int) -> Tensor:
    """z with columns of C, which are 1 where it has none."""
    if z.shape[2] != directions * (ranks + states):
        return z
    columns = z.unflatten(2, (directions, ranks + states))
    ones = torch.ones_like(columns[..., :states])
    return torch.cat([columns, ones], dim=-1).flatten(2)


def _check(
    x: Tensor,
    tensors: dict[str, Tensor],
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None,
    weight: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    for name, tensor in {"x": x, "dt_weight": tensors["dt_weight"], "A": tensors["A"]}.items():
        if tensor.ndim != 3:
            raise ValueError(f"{name} must have three axes, got {tuple(tensor.shape)}")
    if order.ndim != 3:
        raise ValueError(f"order must have three axes, got {tuple(order.shape)}")
    s = sizes_of(x, tensors["dt_weight"], tensors["A"], order)
    if (window is None) != (weight is None):
        raise ValueError("window and weight go together: give both or neither")
    sets = 1 if window is None else 2
    positions = max(s.positions, s.length) if window is None else s.length
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "z": (tensors["z"], (s.batch, s.length, s.directions * s.columns)),
        "dt_weight": (tensors["dt_weight"], (s.directions, s.channels, s.ranks)),
        "dt_bias": (tensors["dt_bias"], (s.directions, s.channels)),
        "A": (tensors["A"], (s.directions, s.channels, s.states)),
        "D_skip": (tensors["D_skip"], (s.directions, s.channels)),
        "order": (order, (sets, s.directions, positions)),
        "inverse": (inverse, (sets, s.directions, s.length)),
    }
    if window is not None and weight is not None:
        expected["window"] = (window, (s.length,))
        windows = weight.shape[1] if weight.ndim == 2 and weight.shape[1] > 0 else 1
        expected["weight"] = (weight, (s.batch, windows))
    if initial_state is not None:
        states = (s.batch, s.directions, s.channels, s.states)
        expected["initial_state"] = (initial_state, states)
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(
                f"{name} must be {shape} with B={s.batch} L={s.length} D={s.channels} "
                f"K={s.directions} N={s.states} R={s.ranks}, got {tuple(tensor.shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} must be on {x.device} like x, got {tensor.device}")
        if name in ("order", "inverse", "window"):
            if tensor.dtype not in (torch.int32, torch.int64):
                raise ValueError(f"{name} must be int32 or int64, got {tensor.dtype}")
        elif not tensor.is_floating_point():
            raise ValueError(f"{name} must be real and floating point, got {tensor.dtype}")
    if not x.is_floating_point():
        raise ValueError(f"x must be real and floating point, got {x.dtype}")
    if min(s[1:]) < 1:
        raise ValueError(f"L, D, K, N and R must be at least 1, got {s}")
