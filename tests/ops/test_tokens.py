"""Token reorderings: adjoint pairs, and the gradient of the window choice."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mmquad.ops.tokens import (
    gather_tokens,
    gather_tokens_masked,
    gather_tokens_windowed,
    merge_tokens,
    merge_tokens_masked,
    merge_tokens_windowed,
)

BATCH, LENGTH, CHANNELS = 3, 12, 2


class WindowTables(NamedTuple):
    order: Tensor  # [2, K, L]
    inverse: Tensor  # [2, K, L]
    window: Tensor  # [L]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_orders(rows: int, directions: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    index = torch.stack(
        [torch.stack([torch.randperm(length) for _ in range(directions)]) for _ in range(rows)]
    )
    return index, index.argsort(-1)


def random_windows(directions: int = 2, windows: int = 4) -> WindowTables:
    """Orders whose windows of unequal size keep their positions, tokens placed at random."""
    sizes = (4, 3, 3, 2)[:windows]
    length = sum(sizes)
    window = torch.cat([torch.full((n,), q) for q, n in enumerate(sizes)])[torch.randperm(length)]
    orders = [[], []]
    for _ in range(directions):
        place = torch.randperm(length)  # where the k-th token of the concatenated windows goes
        for order in orders:
            tokens = [(window == q).nonzero()[:, 0] for q in range(windows)]
            tokens = torch.cat([t[torch.randperm(len(t))] for t in tokens])
            order.append(tokens[place])
    index = torch.stack([torch.stack(order) for order in orders])
    return WindowTables(index, index.argsort(-1), window)


def one_hot_weights(batch: int = BATCH, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.eye(4, dtype=dtype)[torch.arange(batch) % 4].requires_grad_()


@pytest.mark.parametrize("rows", [1, BATCH])
@pytest.mark.parametrize("directions", [1, 2, 4])
def test_gather_reads_the_named_tokens(rows: int, directions: int) -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS)
    index, inverse = random_orders(rows, directions)
    xs = gather_tokens(x, index, inverse)
    assert xs.shape == (BATCH, LENGTH, directions, CHANNELS)
    for b in range(BATCH):
        for k in range(directions):
            assert torch.equal(xs[b, :, k], x[b, index[b % rows, k]])


@pytest.mark.parametrize("rows", [1, BATCH])
def test_merge_undoes_gather_once_per_direction(rows: int) -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS)
    tables = random_orders(rows, 4)
    torch.testing.assert_close(merge_tokens(gather_tokens(x, *tables), *tables), 4 * x)


@pytest.mark.parametrize("rows", [1, BATCH])
def test_gather_and_merge_are_adjoint(rows: int) -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS, dtype=torch.float64)
    ys = torch.randn(BATCH, LENGTH, 3, CHANNELS, dtype=torch.float64)
    tables = random_orders(rows, 3)
    left = (gather_tokens(x, *tables) * ys).sum()
    torch.testing.assert_close(left, (x * merge_tokens(ys, *tables)).sum())


def test_windowed_orders_are_adjoint() -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS, dtype=torch.float64)
    ys = torch.randn(BATCH, LENGTH, 2, CHANNELS, dtype=torch.float64)
    weight, tables = one_hot_weights(), random_windows()
    left = (gather_tokens_windowed(x, weight, *tables) * ys).sum()
    torch.testing.assert_close(left, (x * merge_tokens_windowed(ys, weight, *tables)).sum())


def test_windowed_gather_mixes_the_two_orders() -> None:
    """Fine order at the positions of the chosen window, coarse order everywhere else."""
    x = torch.randn(BATCH, LENGTH, CHANNELS)
    tables = random_windows(directions=1)
    xs = gather_tokens_windowed(x, one_hot_weights(dtype=torch.float32), *tables)
    coarse, fine = tables.order[:, 0]
    for b in range(BATCH):
        for p in range(LENGTH):
            token = fine[p] if tables.window[fine[p]] == b else coarse[p]
            assert torch.equal(xs[b, p, 0], x[b, token])


@pytest.mark.parametrize("chosen", ["one", "none", "several"])
def test_windowed_equals_masked_formula(chosen: str) -> None:
    """Values and all gradients, the weight's included, at 0/1 weights (float64)."""
    tables = random_windows()
    weight = {
        "one": one_hot_weights(),
        "none": torch.zeros(BATCH, 4, dtype=torch.float64).requires_grad_(),
        "several": torch.tensor([[1.0, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]])
        .double()
        .requires_grad_(),
    }[chosen]
    x = torch.randn(BATCH, LENGTH, CHANNELS, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(BATCH, LENGTH, 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(BATCH, LENGTH, CHANNELS, dtype=torch.float64)
    results = []
    for gather, merge in (
        (gather_tokens_windowed, merge_tokens_windowed),
        (gather_tokens_masked, merge_tokens_masked),
    ):
        y = merge(scale * gather(x, weight, *tables), weight, *tables)
        results.append((y, *torch.autograd.grad((y * upstream).sum(), (x, scale, weight))))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    assert results[0][3].abs().min() > 0, "every window's weight must receive a gradient"


def test_straight_through_gradient_as_a_sum_over_tokens() -> None:
    """``dL/dm_q``: sum over the window's tokens of ``x (gradient if fine - if coarse)``."""
    tables = random_windows(directions=1)
    x = torch.randn(BATCH, LENGTH, CHANNELS, dtype=torch.float64)
    weight = one_hot_weights()
    g = torch.randn(BATCH, LENGTH, 1, CHANNELS, dtype=torch.float64)
    (actual,) = torch.autograd.grad(gather_tokens_windowed(x, weight, *tables), weight, g)
    coarse_position, fine_position = tables.inverse[:, 0]
    expected = torch.zeros_like(actual)
    for t in range(LENGTH):
        change = g[:, fine_position[t], 0] - g[:, coarse_position[t], 0]
        expected[:, tables.window[t]] += (x[:, t] * change).sum(-1)
    torch.testing.assert_close(actual, expected)


def test_gradcheck_of_plain_orders() -> None:
    tables = random_orders(1, 2)
    x = torch.randn(2, LENGTH, CHANNELS, dtype=torch.float64, requires_grad=True)
    ys = torch.randn(2, LENGTH, 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gather_tokens(x, *tables), x)
    assert torch.autograd.gradcheck(lambda ys: merge_tokens(ys, *tables), ys)
    assert torch.autograd.gradgradcheck(lambda x: gather_tokens(x, *tables), x)


def test_gradcheck_of_windowed_orders() -> None:
    """In tokens only: the weight's gradient is that of the masked formula, not of the threshold."""
    tables, weight = random_windows(), one_hot_weights(2).detach()
    x = torch.randn(2, LENGTH, CHANNELS, dtype=torch.float64, requires_grad=True)
    ys = torch.randn(2, LENGTH, 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gather_tokens_windowed(x, weight, *tables), x)
    assert torch.autograd.gradcheck(lambda ys: merge_tokens_windowed(ys, weight, *tables), ys)


def test_gradcheck_of_the_masked_formula() -> None:
    tables = random_windows(directions=1)
    x = torch.randn(2, LENGTH, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)

    def round_trip(x: Tensor, weight: Tensor) -> Tensor:
        return merge_tokens_masked(gather_tokens_masked(x, weight, *tables), weight, *tables)

    assert torch.autograd.gradcheck(round_trip, (x, weight))


@pytest.mark.parametrize("rows", [1, 2])
def test_opcheck_of_plain_orders(rows: int) -> None:
    tables = random_orders(rows, 2)
    x = torch.randn(2, LENGTH, CHANNELS, requires_grad=True)
    ys = torch.randn(2, LENGTH, 2, CHANNELS, requires_grad=True)
    torch.library.opcheck(torch.ops.mmquad.gather_tokens.default, (x, *tables))
    torch.library.opcheck(torch.ops.mmquad.merge_tokens.default, (ys, *tables))


def test_opcheck_of_windowed_orders() -> None:
    tables, weight = random_windows(), one_hot_weights(2, torch.float32)
    x = torch.randn(2, LENGTH, CHANNELS, requires_grad=True)
    ys = torch.randn(2, LENGTH, 2, CHANNELS, requires_grad=True)
    torch.library.opcheck(torch.ops.mmquad.gather_tokens_windowed.default, (x, weight, *tables))
    torch.library.opcheck(torch.ops.mmquad.merge_tokens_windowed.default, (ys, weight, *tables))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_mixed_dtypes(dtype: torch.dtype) -> None:
    """Tokens of any dtype with float32 weights, as autocast leaves them; gradients keep dtypes."""
    tables, weight = random_windows(), one_hot_weights(dtype=torch.float32)
    x = torch.randn(BATCH, LENGTH, CHANNELS).to(dtype).requires_grad_()
    y = merge_tokens_windowed(gather_tokens_windowed(x, weight, *tables), weight, *tables)
    y.sum().backward()
    assert torch.equal(y, 2 * x)
    assert (x.grad.dtype, weight.grad.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("shape", [(0, LENGTH, CHANNELS), (1, 1, CHANNELS)])
def test_empty_batch_and_single_token(shape: tuple[int, int, int]) -> None:
    tables = random_orders(1, 2, shape[1])
    x = torch.randn(shape)
    assert torch.equal(merge_tokens(gather_tokens(x, *tables), *tables), 2 * x)


def test_noncontiguous_tokens() -> None:
    tables = random_orders(1, 2)
    x = torch.randn(BATCH, CHANNELS, LENGTH).transpose(1, 2)
    assert torch.equal(gather_tokens(x, *tables), gather_tokens(x.contiguous(), *tables))
    ys = torch.randn(BATCH, 2, LENGTH, CHANNELS).transpose(1, 2)
    assert torch.equal(merge_tokens(ys, *tables), merge_tokens(ys.contiguous(), *tables))
