"""The state-space model along K sequences, against one plain Mamba recurrence per direction."""

import pytest
import torch
from cpu_backends import cpu_backends
from torch import Tensor
from torch.nn import functional as F

from mmquad.layers.selective_ssm import DT_MAX, DT_MIN, SelectiveSSM, step_rank
from mmquad.ops import use_backend
from mmquad.ops.selective_scan import BACKENDS
from mmquad.scans import RasterScan


def naive(ssm: SelectiveSSM, xs: Tensor) -> Tensor:
    """One direction, one sample, one token at a time."""
    batch, length, directions, _ = xs.shape
    ys = torch.zeros_like(xs)
    for k in range(directions):
        A = -ssm.A_log[k].exp()
        for b in range(batch):
            h = torch.zeros_like(A)
            for t in range(length):
                x = xs[b, t, k]
                dt, B, C = (ssm.x_proj[k] @ x).split([ssm.dt_rank, ssm.d_state, ssm.d_state])
                dt = F.softplus(ssm.dt_proj[k] @ dt + ssm.dt_bias[k])
                h = (dt[:, None] * A).exp() * h + (dt * x)[:, None] * B
                ys[b, t, k] = h @ C + ssm.D_skip[k] * x
    return ys


@pytest.mark.parametrize("backend", cpu_backends(BACKENDS))
@pytest.mark.parametrize(
    ("d_state", "dt_rank", "directions"), [(1, 1, 1), (1, 3, 2), (4, 2, 4), (16, 1, 2)]
)
def test_equals_a_loop_over_directions(d_state, dt_rank, directions, backend: str) -> None:
    torch.manual_seed(0)
    ssm = SelectiveSSM(6, d_state, dt_rank, directions).double()
    with torch.no_grad():
        for parameter in ssm.parameters():  # no two directions or channels alike
            parameter.add_(0.3 * torch.randn_like(parameter))
    xs = torch.randn(2, 9, directions, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(xs.shape, dtype=torch.float64)
    inputs = (xs, *ssm.parameters())
    with use_backend(backend):
        actual = ssm(xs)
        gradients = torch.autograd.grad((actual * upstream).sum(), inputs)
    expected = naive(ssm, xs)
    torch.testing.assert_close(actual, expected)
    for mine, theirs in zip(
        gradients, torch.autograd.grad((expected * upstream).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_initialisation_is_mambas() -> None:
    ssm = SelectiveSSM(64, 16, 4, 4)
    step = F.softplus(ssm.dt_bias)
    assert DT_MIN * 0.99 <= step.min() < 2 * DT_MIN
    assert DT_MAX * 0.5 < step.max() <= DT_MAX * 1.01
    torch.testing.assert_close(ssm.A_log.exp(), torch.arange(1.0, 17).expand(4, 64, 16))
    assert ssm.D_skip.eq(1).all()
    assert ssm.x_proj.abs().max() <= 64**-0.5
    assert ssm.dt_proj.abs().max() <= 4**-0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_are_float32_under_autocast(dtype: torch.dtype) -> None:
    ssm = SelectiveSSM(6, 1, 1, 2)
    with torch.autocast("cpu", dtype):
        assert ssm(torch.randn(2, 5, 2, 6, dtype=dtype)).dtype == torch.float32


def test_wrong_shape() -> None:
    message = r"xs \[B, L, K=2, D=6\], got \(1, 5, 4, 6\)"
    with pytest.raises(ValueError, match=message):
        SelectiveSSM(6, 1, 1, directions=2)(torch.randn(1, 5, 4, 6))


def test_rank_of_the_step_sizes() -> None:
    """``ceil(C / 16)``, also where 16 does not divide C, as it does in all published models."""
    assert [step_rank(dim) for dim in (1, 16, 17, 96, 100)] == [1, 1, 2, 6, 7]
    assert step_rank(96, 3) == 3


def test_states_read_out_are_the_scan() -> None:
    torch.manual_seed(0)
    ssm = SelectiveSSM(6, 1, 2, 1).double()
    x, tables = torch.randn(2, 20, 6).double(), RasterScan().tables(4, 5, torch.device("cpu"))
    states, C = ssm.scan_states(x, *tables)
    torch.testing.assert_close(states * C + ssm.D_skip[0] * x, ssm.scan_tokens(x, *tables))
    message = "one direction with one state, this has 1 with 2"
    with pytest.raises(ValueError, match=message):
        SelectiveSSM(6, 2, 2, 1).double().scan_states(x, *tables)
