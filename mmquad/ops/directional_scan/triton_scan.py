"""The fused op in Triton: what the kernels of :mod:`mmquad.ops.selective_scan` need for it.

Groups are directions; tokens are read by the order, steps projected from the ranks in z inside the
kernels. The gradient keeps x, z and the state before each chunk.
"""

from typing import Any

import torch
from torch import Tensor

from mmquad.ops.backend import initial_state_unsupported
from mmquad.ops.directional_scan.composed import Gradients
from mmquad.ops.directional_scan.layout import (
    COARSE,
    FINE,
    Order,
    mixed_inverse,
    mixed_order,
)
from mmquad.ops.selective_scan.triton_launch import (
    Operand,
    ScanProblem,
    enter_chunks,
    on_device_of,
    run_gradients,
    run_outputs,
)
from mmquad.ops.triton import unsupported_tokens

__all__ = ["triton_backward", "triton_forward", "triton_unsupported"]


def triton_unsupported(**inputs: Any) -> list[str]:
    """Why the kernels cannot run the given inputs."""
    return unsupported_tokens("x", inputs["x"]) + initial_state_unsupported(**inputs)


def triton_forward(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    states: Tensor,
) -> Tensor:
    """``y [B, L, D]`` or ``[B, K, L, D]``; fills ``states [B, K, chunks, N, D]`` unless empty."""
    problem = _problem(x, z, dt_weight, dt_bias, A, D_skip, tables)
    batch, length, channels = x.shape
    directions = () if merge else (A.shape[0],)
    y = x.new_empty((batch, *directions, length, channels), dtype=torch.float32)
    if y.numel() == 0:
        return y
    saved = states.numel() > 0
    if not saved:
        states = problem.empty(*problem.state_shape)
    with on_device_of(x):
        enter_chunks(problem, states)
        run_outputs(problem, states.clone() if saved else states, _rows(y), merge)
    return y


def triton_backward(
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    states: Tensor,
) -> Gradients:
    """Gradients as :func:`~mmquad.ops.directional_scan.composed.composed_backward`."""
    problem = _problem(x, z, dt_weight, dt_bias, A, D_skip, tables)
    if x.numel() == 0:
        inputs = (x, z, dt_weight, dt_bias, A, D_skip)
        nothing = [torch.zeros_like(each, dtype=torch.float32) for each in inputs]
        dweight = None if tables.weight is None else torch.zeros_like(tables.weight)
        return Gradients._make([*nothing, dweight, None])
    dx = torch.empty_like(x, dtype=torch.float32)
    # One direction's gradients of the raw steps, used up before the next direction writes its own.
    dstep = torch.empty_like(dx)
    adjoints = torch.empty_like(states)
    with on_device_of(x):
        enter_chunks(problem, adjoints, _rows(dy))
        rival = None if tables.window is None else _rivals(tables)
        found = run_gradients(
            problem, _rows(dy), states, adjoints, _rows(dx), _rows(dstep), merge=True, rival=rival
        )
        assert found.ranks is not None
        assert found.weight is not None
        dz = torch.cat([found.ranks, found.BC], dim=3).flatten(2)
        dweight = None if found.choice is None else _dweight(found.choice, dz, z, tables)
    return Gradients(
        x=dx,
        z=dz,
        dt_weight=found.weight.transpose(1, 2),
        dt_bias=found.bias,
        A=found.A.transpose(1, 2),
        D_skip=found.skip,
        weight=dweight,
    )


def _rows(tokens: Tensor) -> Operand:
    """Contiguous ``[B, L, D]``, shared by all directions, or ``[B, K, L, D]``."""
    group = tokens.stride(1) if tokens.ndim == 4 else 0
    return Operand(tokens, tokens.stride(0), group, tokens.stride(-2))


def _problem(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
) -> ScanProblem:
    directions, _, ranks = dt_weight.shape
    states = A.shape[2]
    columns = z.contiguous().unflatten(2, (directions, ranks + 2 * states))  # [B, L, K, C]

    def columns_from(first: int) -> Operand:
        part = columns[..., first:]
        return Operand(part, columns.stride(0), columns.stride(2), columns.stride(1))

    return ScanProblem(
        x=_rows(x),
        step=columns_from(0),
        B=columns_from(ranks),
        B_state=1,
        C=columns_from(ranks + states),
        C_state=1,
        weight=dt_weight.transpose(1, 2).contiguous(),
        bias=dt_bias.contiguous(),
        A=A.transpose(1, 2).contiguous(),
        skip=D_skip.contiguous(),
        order=mixed_order(tables).contiguous(),
        batch=x.shape[0],
        length=x.shape[1],
        softplus=True,
    )


def _rivals(tables: Order) -> Tensor:
    """The token that each position would have had with the other choice, ``[B, K, L]``."""
    order, read = tables.order, mixed_order(tables)
    # Tokens add up exactly, so that what is not the one read is the other, be they equal or not.
    return (order[COARSE] + order[FINE] - read).contiguous()


def _dweight(choice: Tensor, dz: Tensor, z: Tensor, tables: Order) -> Tensor:
    """The straight-through gradient of ``weight``, ``[B, Q]``.

    ``choice [B, K, L]`` is what tokens contribute through x and y, less what their rivals would
    have; the same through z is added here, where the gradient of z is complete.
    """
    assert tables.window is not None
    assert tables.weight is not None
    batch, directions = choice.shape[:2]
    rival = _rivals(tables).gather(
        2, mixed_inverse(tables).long().expand(batch, -1, -1)
    )  # [B, K, L]
    per_direction = z.unflatten(2, (directions, -1)).transpose(1, 2)  # [B, K, L, C]
    index = rival.long()[..., None].expand_as(per_direction)
    gain = dz.unflatten(2, (directions, -1)).transpose(1, 2) * (
        per_direction - per_direction.gather(2, index)
    )
    # Large sums that cancel: the one place where float32 would show.
    per_token = (choice.double() + gain.sum(-1, dtype=torch.float64)).sum(1)  # [B, L]
    member = tables.window == torch.arange(tables.weight.shape[1], device=z.device)[:, None]
    per_window = torch.where(member, per_token[:, None], 0.0).sum(2)  # [B, Q]
    sign = torch.where(tables.weight > 0.5, 1.0, -1.0)
    return (per_window * sign).to(torch.float32)
