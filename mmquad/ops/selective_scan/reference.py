"""The selective scan as its equations, one token at a time. Never optimised.

For channel d with state n, at token t (Mamba, eq. 2, with the simplified B discretisation that
every vision Mamba uses)::

    delta_t = softplus(raw_t + bias)
    h_t     = exp(delta_t * A) * h_{t-1} + delta_t * B_t * u_t          h_0 given, or 0
    y_t     = sum_n C_t * h_t + D * u_t

The adjoint, with g_t = dLoss/dh_t::

    g_t     = C_t * dy_t + exp(delta_{t+1} * A) * g_{t+1}        dh_0 = exp(delta_1 * A) * g_1

Shapes are those of :func:`mmquad.ops.selective_scan`, B and C already ``[B, G, N, L]``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["selective_scan_backward_reference", "selective_scan_reference", "step_size"]


def step_size(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    """``softplus(delta + bias)``, where asked for; ``[B, D, L]``."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    return F.softplus(delta) if delta_softplus else delta


def per_channel(grouped: Tensor, channels: int) -> Tensor:
    """``[B, G, N, L] -> [B, D, N, L]``: channel d reads group ``d // (D / G)``."""
    return grouped.repeat_interleave(channels // grouped.shape[1], dim=1)


def _entering(u: Tensor, A: Tensor, initial_state: Tensor | None) -> Tensor:  # [B, D, N]
    return u.new_zeros(u.shape[0], *A.shape) if initial_state is None else initial_state


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs ``y [B, D, L]`` and the last state ``[B, D, N]``; all tensors of one float dtype."""
    channels, length = u.shape[1:]
    delta = step_size(delta, delta_bias, delta_softplus)
    B, C = per_channel(B, channels), per_channel(C, channels)

    h = _entering(u, A, initial_state)
    y = []
    for t in range(length):
        decay = torch.exp(delta[:, :, t, None] * A)
        h = decay * h + delta[:, :, t, None] * B[..., t] * u[:, :, t, None]
        y.append((C[..., t] * h).sum(-1))
    out = torch.stack(y, dim=-1)
    return (out if D is None else out + D[:, None] * u), h


def selective_scan_backward_reference(
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
    initial_state: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias, given those of y and of the last state.

    Followed by that of the initial state, if there was one.
    """
    channels, length = u.shape[1:]
    groups_of_B, groups_of_C = B.shape[1], C.shape[1]
    raw, delta = delta, step_size(delta, delta_bias, delta_softplus)
    B, C = per_channel(B, channels), per_channel(C, channels)
    decay = torch.exp(delta[:, :, None] * A[..., None])  # [B, D, N, L]

    states = [_entering(u, A, initial_state)]
    for t in range(length):
        states.append(decay[..., t] * states[-1] + (delta * u)[:, :, t, None] * B[..., t])

    du, ddelta = torch.zeros_like(u), torch.zeros_like(u)
    dA = torch.zeros_like(A)
    dB, dC = torch.zeros_like(B), torch.zeros_like(C)
    g = dlast
    for t in reversed(range(length)):
        g = g + C[..., t] * dy[:, :, t, None]
        dC[..., t] = dy[:, :, t, None] * states[t + 1]
        dB[..., t] = g * (delta * u)[:, :, t, None]
        du[:, :, t] = (g * B[..., t]).sum(-1) * delta[:, :, t]
        ddecay = g * states[t] * decay[..., t]  # times d(delta * A)
        ddelta[:, :, t] = (ddecay * A + g * B[..., t] * u[:, :, t, None]).sum(-1)
        dA = dA + (ddecay * delta[:, :, t, None]).sum(0)
        g = g * decay[..., t]
    dD = (dy * u).sum((0, 2))
    if D is not None:
        du = du + D[:, None] * dy
    if delta_softplus:
        shifted = raw if delta_bias is None else raw + delta_bias[:, None]
        ddelta = ddelta * torch.sigmoid(shifted)

    def over_group(gradient: Tensor, groups: int) -> Tensor:  # [B, D, N, L] -> [B, G, N, L]
        return gradient.unflatten(1, (groups, -1)).sum(2)

    dB, dC = over_group(dB, groups_of_B), over_group(dC, groups_of_C)
    gradients = (du, ddelta, dA, dB, dC, dD, ddelta.sum((0, 2)))
    return gradients if initial_state is None else (*gradients, g)
