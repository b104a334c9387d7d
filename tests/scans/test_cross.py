"""The cross scan: rows and columns, forwards and backwards."""

import random

import pytest
import torch

from mmquad.scans import CrossScan

CPU = torch.device("cpu")

#  0  1  2  3
#  4  5  6  7
#  8  9 10 11
# 12 13 14 15
ORDERS_4X4 = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
    [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    [15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0],
]
ORDERS_2X3 = [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]

RANDOM = random.Random(0)
SIZES = [(1, 1), (1, 7), (7, 1), (2, 2)] + [
    (RANDOM.randint(1, 40), RANDOM.randint(1, 40)) for _ in range(30)
]


@pytest.mark.parametrize(("size", "orders"), [((4, 4), ORDERS_4X4), ((2, 3), ORDERS_2X3)])
def test_pencil_tables(size: tuple[int, int], orders: list[list[int]]) -> None:
    assert CrossScan().orders(*size, CPU).tolist() == orders
    assert CrossScan().tables(*size, CPU).order[0].tolist() == orders


def test_directions() -> None:
    assert CrossScan().directions == 4


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bijective_and_exactly_invertible(height: int, width: int) -> None:
    scan, size = CrossScan(), height * width
    order, inverse = scan.tables(height, width, CPU)
    for k in range(4):
        assert sorted(order[0, k].tolist()) == list(range(size))
        assert order[0, k][inverse[0, k]].tolist() == list(range(size))
    x = torch.randint(-8, 8, (2, height, width, 3)).float()
    xs = scan.to_sequences(x)
    assert xs.shape == (2, size, 4, 3)
    assert torch.equal(scan.to_grid(xs, height, width), 4 * x)


def test_sequences_follow_the_orders() -> None:
    x = torch.arange(16.0).view(1, 4, 4, 1)
    assert CrossScan().to_sequences(x)[0, :, :, 0].t().tolist() == ORDERS_4X4
