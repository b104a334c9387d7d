"""Vim's mixer: two Mamba branches of one projection, one of them from the end, token by token."""

import pytest
import torch
from cotangents import project
from torch import Tensor
from torch.nn import functional as F

from mmquad.layers import BidirectionalMixer


def branch(mixer: BidirectionalMixer, k: int, x: Tensor) -> Tensor:
    """Causal convolution, SiLU and the recurrence of direction k, on one sequence ``[L, D]``."""
    taps, ssm = mixer.conv_weight[k], mixer.ssm
    A = -ssm.A_log[k].exp()
    h, ys = torch.zeros_like(A), []
    for t in range(len(x)):
        u = mixer.conv_bias[k]
        for w in range(taps.shape[1]):  # the last tap is of the token itself
            source = t - (taps.shape[1] - 1) + w
            if source >= 0:
                u = u + taps[:, w] * x[source]
        u = F.silu(u)
        dt, B, C = (ssm.x_proj[k] @ u).split([ssm.dt_rank, ssm.d_state, ssm.d_state])
        dt = F.softplus(ssm.dt_proj[k] @ dt + ssm.dt_bias[k])
        h = (dt[:, None] * A).exp() * h + (dt * u)[:, None] * B
        ys.append(h @ C + ssm.D_skip[k] * u)
    return torch.stack(ys)


def step_by_step(mixer: BidirectionalMixer, x: Tensor) -> Tensor:
    outputs = []
    for sample in x:
        inner, gate = (sample @ mixer.in_proj.weight.t()).chunk(2, dim=-1)
        backwards = branch(mixer, 1, inner.flip(0)).flip(0)
        mean = (branch(mixer, 0, inner) + backwards) / 2
        outputs.append((mean * F.silu(gate)) @ mixer.out_proj.weight.t())
    return torch.stack(outputs)


@pytest.mark.parametrize("length", [1, 3, 9])
def test_equals_two_branches_token_by_token(length: int) -> None:
    torch.manual_seed(0)
    mixer = BidirectionalMixer(6, 8, d_state=3, dt_rank=2).double()
    with torch.no_grad():
        for parameter in mixer.parameters():  # no two directions alike
            parameter.add_(0.5 * torch.randn_like(parameter))
    x = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    leaves = (x, *mixer.parameters())
    actual, expected = mixer(x), step_by_step(mixer, x)
    torch.testing.assert_close(actual, expected)
    for mine, theirs in zip(
        torch.autograd.grad(project(actual), leaves),
        # of one token half of the taps see nothing
        torch.autograd.grad(project(expected), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_neither_order_is_special() -> None:
    """With its directions exchanged, the mixer of a reversed sequence is the reversed output."""
    torch.manual_seed(0)
    mixer = BidirectionalMixer(6, 8, d_state=3, dt_rank=2).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    expected = mixer(x).flip(1)
    assert not torch.allclose(mixer(x.flip(1)), expected)
    with torch.no_grad():
        for parameter in (mixer.conv_weight, mixer.conv_bias, *mixer.ssm.parameters()):
            parameter.copy_(parameter.flip(0))
    torch.testing.assert_close(mixer(x.flip(1)), expected)
