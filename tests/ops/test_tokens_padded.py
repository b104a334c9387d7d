"""Token reorderings with empty positions, and those that keep the directions apart."""

import pytest
import torch
from torch import Tensor

from mmquad.ops.tokens import gather_tokens, merge_tokens, read_directions, return_directions

BATCH, LENGTH, POSITIONS, DIRECTIONS, CHANNELS = 3, 6, 9, 2, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def padded_orders(rows: int = 1) -> tuple[Tensor, Tensor]:
    """Every direction reads six tokens at six of nine positions, chosen at random."""
    index = torch.full((rows, DIRECTIONS, POSITIONS), -1)
    inverse = torch.empty(rows, DIRECTIONS, LENGTH, dtype=torch.int64)
    for r in range(rows):
        for k in range(DIRECTIONS):
            inverse[r, k] = torch.randperm(POSITIONS)[:LENGTH]
            index[r, k, inverse[r, k]] = torch.arange(LENGTH)
    return index, inverse


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("rows", [1, BATCH])
def test_empty_positions_read_zeros(rows: int) -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS)
    index, inverse = padded_orders(rows)
    xs = gather_tokens(x, index, inverse)
    assert xs.shape == (BATCH, POSITIONS, DIRECTIONS, CHANNELS)
    for b in range(BATCH):
        for k in range(DIRECTIONS):
            for p, token in enumerate(index[b % rows, k].tolist()):
                expected = torch.zeros(CHANNELS) if token < 0 else x[b, token]
                assert torch.equal(xs[b, p, k], expected)


@pytest.mark.parametrize("rows", [1, BATCH])
def test_what_stands_at_empty_positions_is_dropped(rows: int) -> None:
    x = torch.randn(BATCH, LENGTH, CHANNELS)
    index, inverse = padded_orders(rows)
    xs = gather_tokens(x, index, inverse)
    junk = xs.masked_fill(index.lt(0).transpose(1, 2)[..., None], float("nan"))
    torch.testing.assert_close(merge_tokens(junk, index, inverse), DIRECTIONS * x)
    returned = return_directions(junk, index, inverse)
    assert torch.equal(returned, x[:, None].expand(-1, DIRECTIONS, -1, -1))


def test_returned_directions_sum_to_the_merged_tokens() -> None:
    ys = torch.randn(BATCH, POSITIONS, DIRECTIONS, CHANNELS)
    tables = padded_orders()
    merged = merge_tokens(ys, *tables)
    torch.testing.assert_close(return_directions(ys, *tables).sum(1), merged)


def test_reading_each_directions_own_tokens_undoes_returning_them() -> None:
    x = torch.randn(BATCH, DIRECTIONS, LENGTH, CHANNELS)
    tables = padded_orders()
    xs = read_directions(x, *tables)
    assert torch.equal(return_directions(xs, *tables), x)
    assert xs.eq(0).all(-1).sum() == BATCH * DIRECTIONS * (POSITIONS - LENGTH)


@pytest.mark.parametrize("rows", [1, 2])
def test_gradients(rows: int) -> None:
    tables = padded_orders(rows)
    sequences = tokens(2, POSITIONS, DIRECTIONS, CHANNELS)
    gradcheck = torch.autograd.gradcheck
    assert gradcheck(lambda x: gather_tokens(x, *tables), tokens(2, LENGTH, CHANNELS))
    assert gradcheck(lambda y: merge_tokens(y, *tables), sequences)
    assert gradcheck(lambda y: return_directions(y, *tables), sequences)
    apart = tokens(2, DIRECTIONS, LENGTH, CHANNELS)
    assert gradcheck(lambda x: read_directions(x, *tables), apart)


def test_opcheck() -> None:
    tables = padded_orders()
    ops = torch.ops.mmquad
    sequences = torch.randn(2, POSITIONS, DIRECTIONS, CHANNELS, requires_grad=True)
    apart = torch.randn(2, DIRECTIONS, LENGTH, CHANNELS, requires_grad=True)
    x = torch.randn(2, LENGTH, CHANNELS, requires_grad=True)
    torch.library.opcheck(ops.gather_tokens.default, (x, *tables))
    torch.library.opcheck(ops.merge_tokens.default, (sequences, *tables))
    torch.library.opcheck(ops.return_directions.default, (sequences, *tables))
    torch.library.opcheck(ops.read_directions.default, (apart, *tables))


def test_empty_batch() -> None:
    tables = padded_orders()
    xs = gather_tokens(torch.randn(0, LENGTH, CHANNELS), *tables)
    assert xs.shape == (0, POSITIONS, DIRECTIONS, CHANNELS)
    returned = return_directions(xs, *tables)
    assert returned.shape == (0, DIRECTIONS, LENGTH, CHANNELS)
    assert read_directions(returned, *tables).shape == xs.shape
