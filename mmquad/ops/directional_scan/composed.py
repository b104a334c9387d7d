"""The fused op put together from its parts in PyTorch: gather, project, scan, merge.

Written out once and run with either scan of :mod:`mmquad.ops.selective_scan`: with the sequential
one it is the reference, with the chunked one the fastest form without compiled code. The gradient
is the transpose of each line, in reverse order. All tensors are of one dtype, float32 or float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmquad.ops.directional_scan.layout import (
    COARSE,
    FINE,
    Order,
    Sizes,
    mixed_inverse,
    mixed_order,
    sizes_of,
)
from mmquad.ops.directional_scan.reordering import (
    gather_apart,
    gather_columns,
    gather_shared,
    merge_apart,
    merge_columns,
    merge_shared,
    sum_windows,
)

__all__ = ["Gradients", "composed_backward", "composed_forward"]


class Gradients(NamedTuple):
    """Of the differentiable inputs, in their shapes; the last two are None for inputs not given."""

    x: Tensor
    z: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D_skip: Tensor
    weight: Tensor | None
    initial_state: Tensor | None = None


class _ScanInputs(NamedTuple):
    """What the scan over ``K D`` channels reads; the channel axis comes first, as a view."""

    u: Tensor  # [B, K D, P]
    delta: Tensor  # [B, K D, P], before bias and softplus
    A: Tensor  # [K D, N]
    B: Tensor  # [B, K, N, P]
    C: Tensor  # [B, K, N, P]
    D: Tensor  # [K D]
    delta_bias: Tensor  # [K D]


def composed_forward(
    scan: Callable[..., Any],
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    initial_state: Tensor | None = None,
) -> Tensor:
    """``y [B, L, D]``, or ``[B, K, L, D]`` unmerged; arguments as the public op's."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    order = mixed_order(tables)
    xs, zs = gather_shared(x, order), gather_columns(z, order)
    inputs = _scan_inputs(xs, zs, dt_weight, dt_bias, A, D_skip, sizes)
    y, _ = scan(*inputs, True, *_entering(initial_state))
    ys, inverse = _per_direction(y, sizes), mixed_inverse(tables)
    return merge_shared(ys, inverse) if merge else merge_apart(ys, inverse)


def composed_backward(
    scan: Callable[..., Any],
    scan_backward: Callable[..., Any],
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    initial_state: Tensor | None = None,
) -> Gradients:
    """Gradients of everything that :func:`composed_forward` reads; ``dy`` in its result's shape."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    order, inverse = mixed_order(tables), mixed_inverse(tables)
    xs, zs = gather_shared(x, order), gather_columns(z, order)
    inputs = _scan_inputs(xs, zs, dt_weight, dt_bias, A, D_skip, sizes)
    dys = gather_shared(dy, order) if merge else gather_apart(dy, order)
    no_state = x.new_zeros(sizes.batch, sizes.directions * sizes.channels, sizes.states)
    entering = _entering(initial_state)
    dxs, ddelta, dA, dB, dC, dD, dbias, *dinitial = scan_backward(
        dys.flatten(2).transpose(1, 2), no_state, *inputs, True, *entering
    )
    dxs, ddelta = _per_direction(dxs, sizes), _per_direction(ddelta, sizes)
    drank = torch.einsum("blkd,kdr->blkr", ddelta, dt_weight)
    dzs = torch.cat([drank, dB.permute(0, 3, 1, 2), dC.permute(0, 3, 1, 2)], dim=-1)
    dweight = None
    if tables.weight is not None:
        ys = _per_direction(scan(*inputs, True, *entering)[0], sizes)
        dweight = (
            _choice_gradient(merge_shared, ys, dy, tables)
            + _choice_gradient(merge_shared, dxs, x, tables)
            + _choice_gradient(merge_columns, dzs, z, tables)
        )
    return Gradients(
        x=merge_shared(dxs, inverse),
        z=merge_columns(dzs, inverse),
        dt_weight=torch.einsum("blkd,blkr->kdr", ddelta, zs[..., : sizes.ranks]),
        dt_bias=dbias.view_as(dt_bias),
        A=dA.view_as(A),
        D_skip=dD.view_as(D_skip),
        weight=dweight,
        initial_state=None if initial_state is None else dinitial[0].reshape(initial_state.shape),
    )


def _entering(initial_state: Tensor | None) -> tuple[Tensor, ...]:
    """``[B, K, D, N]`` as the last argument of the scan, ``[B, K D, N]``, or no argument."""
    return () if initial_state is None else (initial_state.flatten(1, 2),)


def _scan_inputs(
    xs: Tensor,
    zs: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    sizes: Sizes,
) -> _ScanInputs:
    rank, B, C = zs.split([sizes.ranks, sizes.states, sizes.states], dim=-1)
    delta = torch.einsum("blkr,kdr->blkd", rank, dt_weight)
    return _ScanInputs(
        u=xs.flatten(2).transpose(1, 2),
        delta=delta.flatten(2).transpose(1, 2),
        A=A.flatten(0, 1),
        B=B.permute(0, 2, 3, 1),
        C=C.permute(0, 2, 3, 1),
        D=D_skip.flatten(),
        delta_bias=dt_bias.flatten(),
    )


def _per_direction(channels_first: Tensor, sizes: Sizes) -> Tensor:  # [B, K D, P] -> [B, P, K, D]
    return channels_first.transpose(1, 2).unflatten(2, (sizes.directions, sizes.channels))


def _choice_gradient(
    merge: Callable[[Tensor, Tensor], Tensor], sequences: Tensor, tokens: Tensor, tables: Order
) -> Tensor:
    """What reading finely would add, less what reading coarsely would, per window: ``[B, Q]``."""
    assert tables.window is not None
    assert tables.weight is not None
    fine = merge(sequences, tables.inverse[FINE, None])
    coarse = merge(sequences, tables.inverse[COARSE, None])
    per_token = (fine - coarse).mul_(tokens).sum(-1)
    return sum_windows(per_token, tables.window, tables.weight.shape[1])
