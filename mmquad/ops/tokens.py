"""Reordering tokens into K sequences, and merging sequences back: each other's adjoint.

Tables are int32 or int64, one for all samples or one for each: ``index [1 or B, K, P]`` holds the
token that direction k reads at position p, and ``inverse [1 or B, K, L]`` the position at which
direction k reads token t. Each direction reads every token once; where P > L, the other positions
are -1, read zeros, and what is found there is dropped.

The windowed forms pick, per sample and window, one of two orders (coarse or fine), and give the
exact gradient of the straight-through mask that picked (arXiv:2410.06806, eq. 9-11)::

    m_t     = weight[window(t)]
    xs      = P_fine (m x) + P_coarse ((1 - m) x)
    y       = m P_fine^T ys + (1 - m) P_coarse^T ys

They require that both orders give every window the same positions, so that for 0/1 weights the
result is again a permutation. :func:`gather_tokens_masked` and :func:`merge_tokens_masked` are the
two lines above as they stand: the reference, and the only choice for orders without that property.
:func:`gather_tokens_mixed` and :func:`merge_tokens_mixed` are the same for more than two orders.
"""

import functools

import torch
from torch import Tensor

from mmquad.ops.differentiation import define, differentiable, fake_of, first_derivatives_only
from mmquad.ops.directional_scan.layout import COARSE, FINE, Order, mixed_inverse, mixed_order
from mmquad.ops.directional_scan.reordering import (
    gather_apart,
    gather_shared,
    merge_apart,
    merge_shared,
    sum_windows,
)

__all__ = [
    "gather_tokens",
    "gather_tokens_masked",
    "gather_tokens_mixed",
    "gather_tokens_windowed",
    "merge_tokens",
    "merge_tokens_masked",
    "merge_tokens_mixed",
    "merge_tokens_windowed",
    "read_directions",
    "return_directions",
]


@define("gather_tokens")
def gather_tokens(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Tokens ``x [B, L, D]`` read in K orders: ``[B, P, K, D]``."""
    return gather_shared(x, index)


@define("merge_tokens")
def merge_tokens(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Sequences ``y [B, P, K, D]`` put back in place and summed over K: ``[B, L, D]``."""
    return merge_shared(y, inverse)


@define("return_directions")
def return_directions(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Sequences ``y [B, P, K, D]`` put back in place, direction by direction: ``[B, K, L, D]``."""
    return merge_apart(y, inverse)


@define("read_directions")
def read_directions(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Tokens ``x [B, K, L, D]``, each direction's own, read in its order: ``[B, P, K, D]``."""
    return gather_apart(x, index)


@fake_of(gather_tokens)
def _gather_fake(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    batch, _, channels = x.shape
    return x.new_empty(batch, index.shape[2], index.shape[1], channels)


@fake_of(merge_tokens)
def _merge_fake(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    return y.new_empty(y.shape[0], inverse.shape[2], y.shape[3])


@fake_of(return_directions)
def _return_fake(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    return y.new_empty(y.shape[0], *inverse.shape[1:], y.shape[3])


@fake_of(read_directions)
def _read_fake(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], index.shape[2], index.shape[1], x.shape[3])


def _save_tables(ctx, inputs, output) -> None:
    _, index, inverse = inputs
    ctx.save_for_backward(index, inverse)


gather_tokens = differentiable(
    gather_tokens,
    _save_tables,
    lambda ctx, grad: (merge_tokens(grad, *ctx.saved_tensors), None, None),
)
merge_tokens = differentiable(
    merge_tokens,
    _save_tables,
    lambda ctx, grad: (gather_tokens(grad, *ctx.saved_tensors), None, None),
)
return_directions = differentiable(
    return_directions,
    _save_tables,
    lambda ctx, grad: (read_directions(grad, *ctx.saved_tensors), None, None),
)
read_directions = differentiable(
    read_directions,
    _save_tables,
    lambda ctx, grad: (return_directions(grad, *ctx.saved_tensors), None, None),
)


@define("gather_tokens_windowed")
def gather_tokens_windowed(
    x: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    """Tokens in K orders, fine inside the chosen windows and coarse elsewhere.

    Args:
        x: ``[B, L, D]``.
        weight: 1 for chosen windows, 0 for others, ``[B, Q]``; differentiable (straight through).
        index: ``[2, K, L]``, coarse orders and fine orders.
        inverse: Their inverses, ``[2, K, L]``.
        window: The window of every token, ``[L]``, in ``range(Q)``.

    Returns:
        ``[B, L, K, D]``.
    """
    return gather_shared(x, mixed_order(Order(index, inverse, window, weight)))


@define("merge_tokens_windowed")
def merge_tokens_windowed(
    y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    """The inverse of :func:`gather_tokens_windowed`, summed over K: ``[B, L, D]``."""
    return merge_shared(y, mixed_inverse(Order(index, inverse, window, weight)))


@define("gather_tokens_windowed_backward")
def _gather_windowed_backward(
    grad: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    fine, coarse = (merge_shared(grad, inverse[s, None]) for s in (FINE, COARSE))
    dx = torch.where((weight > 0.5)[:, window, None], fine, coarse)
    per_token = (fine - coarse).mul_(x).sum(-1)
    return dx, sum_windows(per_token, window, weight.shape[1]).to(weight.dtype)


@define("merge_tokens_windowed_backward")
def _merge_windowed_backward(
    grad: Tensor, y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    dy = gather_shared(grad, mixed_order(Order(index, inverse, window, weight)))
    fine, coarse = (merge_shared(y, inverse[s, None]) for s in (FINE, COARSE))
    per_token = (fine - coarse).mul_(grad).sum(-1)
    return dy, sum_windows(per_token, window, weight.shape[1]).to(weight.dtype)


@fake_of(gather_tokens_windowed)
def _gather_windowed_fake(
    x: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    batch, length, channels = x.shape
    return x.new_empty(batch, length, index.shape[1], channels)


@fake_of(merge_tokens_windowed)
def _merge_windowed_fake(
    y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    batch, length, _, channels = y.shape
    return y.new_empty(batch, length, channels)


@fake_of(_gather_windowed_backward)
def _gather_windowed_backward_fake(
    grad: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


@fake_of(_merge_windowed_backward)
def _merge_windowed_backward_fake(
    grad: Tensor, y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), weight.new_empty(weight.shape)


_gather_windowed_backward = first_derivatives_only(_gather_windowed_backward)
_merge_windowed_backward = first_derivatives_only(_merge_windowed_backward)


def _save_gather(ctx, inputs, output) -> None:
    x, weight, _, inverse, window = inputs
    ctx.save_for_backward(x, weight, inverse, window)


def _save_merge(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


gather_tokens_windowed = differentiable(
    gather_tokens_windowed,
    _save_gather,
    lambda ctx, grad: (*_gather_windowed_backward(grad, *ctx.saved_tensors), None, None, None),
)
merge_tokens_windowed = differentiable(
    merge_tokens_windowed,
    _save_merge,
    lambda ctx, grad: (*_merge_windowed_backward(grad, *ctx.saved_tensors), None, None, None),
)


def gather_tokens_masked(
    x: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    """``P_fine (m x) + P_coarse ((1 - m) x)``; arguments of :func:`gather_tokens_windowed`."""
    return gather_tokens_mixed(x, _masks(weight, window), index, inverse)


def merge_tokens_masked(
    y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    """``m P_fine^T y + (1 - m) P_coarse^T y``; arguments of :func:`merge_tokens_windowed`."""
    return merge_tokens_mixed(y, _masks(weight, window), index, inverse)


def _masks(weight: Tensor, window: Tensor) -> Tensor:
    fine = weight[:, window]
    return torch.stack([1 - fine, fine])


def gather_tokens_mixed(x: Tensor, masks: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``sum_s P_s (m_s x)``: tokens ``[B, L, D]`` in any number of orders -> ``[B, L, K, D]``.

    Args:
        x: ``[B, L, D]``.
        masks: How much of each token goes into each order, ``[S, B, L]``; differentiable.
        index: ``[S, K, L]``.
        inverse: Their inverses, ``[S, K, L]``.
    """
    parts = [
        gather_tokens(mask[..., None].to(x.dtype) * x, index[s, None], inverse[s, None])
        for s, mask in enumerate(masks.unbind())
    ]
    return functools.reduce(torch.add, parts)


def merge_tokens_mixed(y: Tensor, masks: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``sum_s m_s P_s^T y``: the adjoint of :func:`gather_tokens_mixed`, ``[B, L, D]``."""
    parts = [
        mask[..., None].to(y.dtype) * merge_tokens(y, index[s, None], inverse[s, None])
        for s, mask in enumerate(masks.unbind())
    ]
    return functools.reduce(torch.add, parts)
