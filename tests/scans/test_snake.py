"""The snake scan: every step goes to a neighbour."""

import random
import time

import pytest
import torch

from mmquad.scans import SnakeScan

CPU = torch.device("cpu")

#  0  1  2  3
#  4  5  6  7
#  8  9 10 11
ORDERS_3X4 = [
    [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11],
    [11, 10, 9, 8, 4, 5, 6, 7, 3, 2, 1, 0],
    [0, 4, 8, 9, 5, 1, 2, 6, 10, 11, 7, 3],
    [3, 7, 11, 10, 6, 2, 1, 5, 9, 8, 4, 0],
]
# 0 first, 1 right, 2 left, 3 up, 4 down
MOVES_3X4 = [
    [0, 1, 1, 1, 4, 2, 2, 2, 4, 1, 1, 1],
    [0, 2, 2, 2, 3, 1, 1, 1, 3, 2, 2, 2],
    [0, 4, 4, 1, 3, 3, 1, 4, 4, 1, 3, 3],
    [0, 4, 4, 2, 3, 3, 2, 4, 4, 2, 3, 3],
]
ORDERS_4X4 = [
    [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12],
    [12, 13, 14, 15, 11, 10, 9, 8, 4, 5, 6, 7, 3, 2, 1, 0],
    [0, 4, 8, 12, 13, 9, 5, 1, 2, 6, 10, 14, 15, 11, 7, 3],
    [3, 7, 11, 15, 14, 10, 6, 2, 1, 5, 9, 13, 12, 8, 4, 0],
]
RANDOM = random.Random(0)
SIZES = [(1, 1), (1, 7), (7, 1), (2, 2)] + [
    (RANDOM.randint(1, 40), RANDOM.randint(1, 40)) for _ in range(20)
]


@pytest.mark.parametrize(("size", "orders"), [((3, 4), ORDERS_3X4), ((4, 4), ORDERS_4X4)])
def test_pencil_tables(size: tuple[int, int], orders: list[list[int]]) -> None:
    assert SnakeScan().orders(*size, CPU).tolist() == orders
    assert SnakeScan().tables(*size, CPU).order[0].tolist() == orders


def test_pencil_moves() -> None:
    assert SnakeScan().moves(3, 4, CPU).tolist() == MOVES_3X4
    # One column: the moves are down and up, though numbers of tokens change by one.
    assert SnakeScan().moves(3, 1, CPU).tolist() == [[0, 4, 4], [0, 3, 3], [0, 4, 4], [0, 3, 3]]
    assert SnakeScan().moves(1, 3, CPU).tolist() == [[0, 1, 1], [0, 2, 2], [0, 1, 1], [0, 2, 2]]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_step_is_to_a_neighbour_by_its_move(height: int, width: int) -> None:
    order, inverse, moves = SnakeScan().tables(height, width, CPU)
    tokens = torch.arange(height * width)
    assert order.shape == inverse.shape == (1, 4, height * width)
    assert torch.equal(order.sort(-1).values, tokens.expand(1, 4, -1))
    assert torch.equal(order.gather(-1, inverse), tokens.expand(1, 4, -1))
    assert not moves[:, 0].any()
    step = torch.tensor([[0, 0], [0, 1], [0, -1], [-1, 0], [1, 0]])  # rows, columns
    place = torch.stack([order[0] // width, order[0] % width], dim=-1)
    assert torch.equal(place.diff(dim=1), step[moves[:, 1:]])


def test_sequences_round_trip() -> None:
    x = torch.randn(2, 5, 6, 3)
    ys = SnakeScan().to_sequences(x)
    assert ys.shape == (2, 30, 4, 3)
    torch.testing.assert_close(SnakeScan().to_grid(ys, 5, 6), 4 * x)


def test_tables_are_cached_and_quick() -> None:
    """A detector's maps of 50 x 84: well under a millisecond for 24 layers, once built."""
    scan = SnakeScan()
    first = scan.tables(50, 84, CPU)
    start = time.perf_counter()
    for _ in range(100):
        assert SnakeScan().tables(50, 84, CPU) is first
    assert (time.perf_counter() - start) / 100 < 1e-3
