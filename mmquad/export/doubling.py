"""The selective scan as about log2(L) whole-sequence operations, for graphs.

A runtime has neither this package's kernels nor a loop over tokens that would be fast. Composing
neighbouring steps of ``h_t = a_t h_{t-1} + b_t`` pairwise, then pairs of pairs, and so on (Hillis
and Steele, 1986) needs only padding, slicing, products and sums, all out of place. It does
L log2(L) work instead of L, and never divides: it is as accurate as the recurrence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.selective_scan.reference import per_channel, step_size

__all__ = ["selective_scan_doubling"]


def selective_scan_doubling(
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
    """As :func:`~mmquad.ops.selective_scan.reference.selective_scan_reference`, without a loop."""
    channels, length = u.shape[1:]
    delta = step_size(delta, delta_bias, delta_softplus)
    B, C = per_channel(B, channels), per_channel(C, channels)
    decay = torch.exp(delta[:, :, None] * A[:, :, None])  # [B, D, N, L]
    h = (delta * u)[:, :, None] * B
    if initial_state is not None:
        h = torch.cat([h[..., :1] + decay[..., :1] * initial_state[..., None], h[..., 1:]], dim=-1)
    reach = 1  # h and decay cover this many tokens up to and with each one
    while reach < length:
        h = h + decay * F.pad(h[..., :-reach], (reach, 0))
        if 2 * reach < length:
            decay = decay * F.pad(decay[..., :-reach], (reach, 0))
        reach *= 2
    y = (C * h).sum(2)
    return (y if D is None else y + D[:, None] * u), h[..., -1]
