"""The op in C++, on the CPU: see :mod:`mmquad.ops.native`.

The kernels read tokens one after the other in memory, ``[B, L, D]``; another layout is copied.
"""

from typing import Any

import torch
from torch import Tensor

from mmquad.ops.native import CHUNK, add_pairwise, slots_for

__all__ = ["native_unsupported", "selective_scan_backward_native", "selective_scan_native"]


def native_unsupported(**inputs: Any) -> list[str]:
    """Why the kernels cannot run the given inputs."""
    u, B, C = inputs["u"], inputs["B"], inputs["C"]
    reasons = []
    if u.device.type != "cpu":
        reasons.append(f"runs on cpu, u is on {u.device.type}")
    if B.shape[1] != C.shape[1]:
        reasons.append(f"B and C must have as many groups, got {B.shape[1]} and {C.shape[1]}")
    return reasons


def selective_scan_native(
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
    """Same contract as :func:`~.reference.selective_scan_reference`; y is token-major in memory."""
    inputs = _kernel_inputs(u, delta, A, B, C, D, delta_bias)
    tokens, directions, states = inputs[0], B.shape[1], A.shape[1]
    y = torch.empty_like(tokens)
    last = u.new_empty(u.shape[0], directions, states, u.shape[1] // directions)
    initial = _state_rows(initial_state, u, directions)
    torch.ops.mmquad_kernels.selective_scan(
        *inputs, initial, delta_softplus, y, u.new_empty(0), last
    )
    return y.transpose(1, 2), last.transpose(2, 3).flatten(1, 2)


def selective_scan_backward_native(
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
    """Gradients as :func:`~.reference.selective_scan_backward_reference` returns them."""
    inputs = _kernel_inputs(u, delta, A, B, C, D, delta_bias)
    batch, channels, length = u.shape
    directions, states = B.shape[1:3]
    dim = channels // directions
    nothing = u.new_empty(0)
    # One state in every CHUNK tokens; those between are computed again, tile by tile.
    saved = u.new_empty(batch, directions, -(-length // CHUNK), states, dim)
    initial = _state_rows(initial_state, u, directions)
    torch.ops.mmquad_kernels.selective_scan(
        *inputs, initial, delta_softplus, nothing, saved, nothing
    )

    upstream = dy.transpose(1, 2).contiguous()
    last = _state_rows(dlast, u, directions)
    dinitial = torch.empty_like(initial)
    slots = slots_for(batch * directions, dim)
    du, ddelta = torch.empty_like(upstream), torch.empty_like(upstream)
    dBC = u.new_empty(slots, batch, length, directions * 2 * states)
    dA = u.new_empty(batch, directions, dim, states)
    dD, dbias = u.new_empty(batch, channels), u.new_empty(batch, channels)
    torch.ops.mmquad_kernels.selective_scan_backward(
        *(upstream, last, *inputs, saved, delta_softplus),
        *(du, ddelta, dBC, dA, dD, dbias, dinitial),
    )
    per_group = add_pairwise(dBC).unflatten(2, (directions, 2 * states))
    dB, dC = per_group.split(states, dim=-1)
    return (
        du.transpose(1, 2),
        ddelta.transpose(1, 2),
        dA.sum(0).flatten(0, 1),
        dB.permute(0, 2, 3, 1),
        dC.permute(0, 2, 3, 1),
        dD.sum(0),
        dbias.sum(0),
        *(() if initial_state is None else (dinitial.transpose(2, 3).flatten(1, 2),)),
    )


def _state_rows(state: Tensor | None, u: Tensor, groups: int) -> Tensor:
    """``[B, D, N]`` as contiguous ``[B, G, N, D / G]``; empty for none."""
    if state is None:
        return u.new_empty(0)
    return state.unflatten(1, (groups, -1)).transpose(2, 3).contiguous()


def _kernel_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
) -> tuple[Tensor, ...]:
    """Contiguous: u, delta ``[B, L, D]``, A ``[G, D / G, N]``, BC ``[B, L, G 2 N]``, D, bias."""
    groups = B.shape[1]
    BC = torch.cat([B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2)], dim=-1)
    nothing = u.new_empty(0)
    return (
        u.transpose(1, 2).contiguous(),
        delta.transpose(1, 2).contiguous(),
        A.unflatten(0, (groups, -1)).contiguous(),
        BC.contiguous().flatten(2),
        nothing if D is None else D.contiguous(),
        nothing if delta_bias is None else delta_bias.contiguous(),
    )
