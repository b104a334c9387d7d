"""The atrous scan: four partial orders, which share nothing and leave nothing out."""

import math
import random

import pytest
import torch

from mmquad.scans import AtrousScan

CPU = torch.device("cpu")

# Even rows and even columns; odd rows, even columns; even rows, odd columns; odd rows and columns.
TABLES = {
    (4, 4): [[0, 2, 8, 10], [4, 12, 6, 14], [1, 3, 9, 11], [5, 13, 7, 15]],
    (3, 3): [[0, 2, 6, 8], [3, -1, 5, -1], [1, -1, 7, -1], [4, -1, -1, -1]],
    (3, 4): [[0, 2, 8, 10], [4, -1, 6, -1], [1, 3, 9, 11], [5, -1, 7, -1]],
    (2, 5): [[0, 2, 4], [5, 7, 9], [1, 3, -1], [6, 8, -1]],
    (1, 3): [[0, 2], [-1, -1], [1, -1], [-1, -1]],
    (1, 1): [[0], [-1], [-1], [-1]],
}

RANDOM = random.Random(0)


@pytest.mark.parametrize("size", TABLES, ids=str)
def test_pencil_tables(size: tuple[int, int]) -> None:
    scan = AtrousScan()
    assert scan.orders(*size, CPU).tolist() == TABLES[size]
    tables = scan.tables(*size, CPU)
    assert tables.order[0].tolist() == TABLES[size]
    inverse = [
        [row.index(t) if t in row else -1 for t in range(math.prod(size))] for row in TABLES[size]
    ]
    assert tables.inverse[0].tolist() == inverse
    assert [(t.shape, t.dtype) for t in tables] == scan.shapes(*size)


def test_an_exact_cover_of_200_sizes() -> None:
    scan = AtrousScan()
    for _ in range(200):
        height, width = RANDOM.randint(1, 40), RANDOM.randint(1, 40)
        order = scan.tables(height, width, CPU).order
        assert sorted(order[order >= 0].tolist()) == list(range(height * width))
        x = torch.randn(2, height, width, 3)
        xs = scan.to_sequences(x)
        assert xs.shape == (2, order.shape[2], 4, 3)
        read = torch.where(order[0].t()[None, ..., None] >= 0, x.flatten(1, 2)[:, order[0].t()], 0)
        assert torch.equal(xs, read)
        assert torch.equal(scan.to_grid(xs, height, width), x)
