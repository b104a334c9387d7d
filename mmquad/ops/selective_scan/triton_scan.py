"""The op in Triton. Tokens are read with their channels adjacent, ``[B, L, D]``; another layout of
u, delta or dy is copied, B and C never are.
"""

from typing import Any

import torch
from torch import Tensor

from mmquad.ops.backend import initial_state_unsupported
from mmquad.ops.selective_scan.triton_launch import (
    Operand,
    ScanProblem,
    enter_chunks,
    on_device_of,
    run_gradients,
    run_outputs,
)
from mmquad.ops.triton import unsupported_tokens

__all__ = ["selective_scan_backward_triton", "selective_scan_triton", "triton_unsupported"]


def triton_unsupported(**inputs: Any) -> list[str]:
    """Why the kernels cannot run the given inputs."""
    B, C = inputs["B"], inputs["C"]
    reasons = unsupported_tokens("u", inputs["u"])
    if B.shape[1] != C.shape[1]:
        reasons.append(f"B and C must have as many groups, got {B.shape[1]} and {C.shape[1]}")
    return reasons + initial_state_unsupported(**inputs)


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~.reference.selective_scan_reference`; y is token-major in memory."""
    problem = _problem(u, delta, A, B, C, D, delta_bias, delta_softplus)
    batch, channels, length = u.shape
    y = problem.empty(batch, length, channels)
    states = problem.empty(*problem.state_shape)
    if y.numel() == 0:
        return y.transpose(1, 2), u.new_zeros(batch, channels, A.shape[1])
    with on_device_of(u):
        enter_chunks(problem, states)
        run_outputs(problem, states, _rows(y, problem.groups), merge=False)
        last = states[:, :, -1].transpose(2, 3).flatten(1, 2)
    return y.transpose(1, 2), last


def selective_scan_backward_triton(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients as :func:`~.reference.selective_scan_backward_reference` returns them."""
    problem = _problem(u, delta, A, B, C, D, delta_bias, delta_softplus)
    groups, states = B.shape[1:3]
    if u.numel() == 0:
        per_channel = u.new_zeros(u.shape[1])
        inputs = (u, delta, A, B, C)
        return (*map(torch.zeros_like, inputs), per_channel, per_channel.clone())  # type: ignore[return-value]
    upstream = _token_major(dy)
    du, ddelta = torch.empty_like(upstream), torch.empty_like(upstream)
    entries, adjoints = (problem.empty(*problem.state_shape) for _ in range(2))
    last = dlast.unflatten(1, (groups, -1)).transpose(2, 3).contiguous()  # [B, G, N, D / G]
    with on_device_of(u):
        enter_chunks(problem, entries)
        enter_chunks(problem, adjoints, _rows(upstream, groups), last)
        found = run_gradients(
            problem,
            _rows(upstream, groups),
            entries,
            adjoints,
            _rows(du, groups),
            _rows(ddelta, groups),
            merge=False,
        )
    dB, dC = found.BC.permute(0, 2, 3, 1).split(states, dim=2)  # [B, G, N, L]
    return (
        du.transpose(1, 2),
        ddelta.transpose(1, 2),
        found.A.transpose(1, 2).flatten(0, 1),
        dB,
        dC,
        found.skip.flatten(),
        found.bias.flatten(),
    )


def _token_major(channels_first: Tensor) -> Tensor:
    """``[B, D, L]`` as contiguous ``[B, L, D]``."""
    return channels_first.transpose(1, 2).contiguous()


def _rows(tokens: Tensor, groups: int) -> Operand:
    """``[B, L, D]`` with the channels of a group adjacent."""
    return Operand(tokens, tokens.stride(0), tokens.shape[2] // groups, tokens.stride(1))


def _problem(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> ScanProblem:
    groups = B.shape[1]

    def grouped(values: Tensor | None) -> Tensor:  # [D] -> [G, D / G], zeros for none
        present = u.new_zeros(u.shape[1]) if values is None else values
        return present.contiguous().unflatten(0, (groups, -1))

    return ScanProblem(
        x=_rows(_token_major(u), groups),
        step=_rows(_token_major(delta), groups),
        B=Operand(B, B.stride(0), B.stride(1), B.stride(3)),
        B_state=B.stride(2),
        C=Operand(C, C.stride(0), C.stride(1), C.stride(3)),
        C_state=C.stride(2),
        weight=None,
        bias=grouped(delta_bias),
        A=A.unflatten(0, (groups, -1)).transpose(1, 2).contiguous(),
        skip=grouped(D),
        order=None,
        batch=u.shape[0],
        length=u.shape[2],
        softplus=delta_softplus,
    )
