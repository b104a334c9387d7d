"""LocalMamba's directions: orders by hand, empty positions, inverses where H and W differ."""

import random

import pytest
import torch
from torch import Tensor

from mmquad.scans import LocalScan
from mmquad.scans.local import LOCAL_DIRECTIONS

CPU = torch.device("cpu")

#  0  1  2  3
#  4  5  6  7
#  8  9 10 11
# 12 13 14 15
ORDERS_4X4 = {
    "h": "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "h_flip": "15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0",
    "v": "0 4 8 12 1 5 9 13 2 6 10 14 3 7 11 15",
    "v_flip": "15 11 7 3 14 10 6 2 13 9 5 1 12 8 4 0",
    "w2": "0 1 4 5 2 3 6 7 8 9 12 13 10 11 14 15",
    "w2_flip": "15 14 11 10 13 12 9 8 7 6 3 2 5 4 1 0",
    "w7": "0 1 2 3 - - - 4 5 6 7 - - - 8 9 10 11 - - - 12 13 14 15 - - -" + 21 * " -",
    "w7_flip": 21 * "- " + "- - - 15 14 13 12 - - - 11 10 9 8 - - - 7 6 5 4 - - - 3 2 1 0",
}
#  0  1  2  3  4  5  6
#  7  8  9 10 11 12 13
# 14 15 16 17 18 19 20
# 21 22 23 24 25 26 27
# 28 29 30 31 32 33 34
_ROWS_5X7 = (
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34"
)
_ROWS_5X7_BACK = (
    "34 33 32 31 30 29 28 27 26 25 24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0"
)
ORDERS_5X7 = {
    "h": _ROWS_5X7,
    "h_flip": _ROWS_5X7_BACK,
    "v": "0 7 14 21 28 1 8 15 22 29 2 9 16 23 30 3 10 17 24 31 "
    "4 11 18 25 32 5 12 19 26 33 6 13 20 27 34",
    "v_flip": "34 27 20 13 6 33 26 19 12 5 32 25 18 11 4 31 24 17 10 3 "
    "30 23 16 9 2 29 22 15 8 1 28 21 14 7 0",
    "w2": "0 1 7 8 2 3 9 10 4 5 11 12 6 - 13 - 14 15 21 22 16 17 23 24 18 19 25 26 20 - 27 - "
    "28 29 - - 30 31 - - 32 33 - - 34 - - -",
    "w2_flip": "- - - 34 - - 33 32 - - 31 30 - - 29 28 - 27 - 20 26 25 19 18 24 23 17 16 "
    "22 21 15 14 - 13 - 6 12 11 5 4 10 9 3 2 8 7 1 0",
    "w7": _ROWS_5X7 + 14 * " -",
    "w7_flip": 14 * "- " + _ROWS_5X7_BACK,
}
UNPADDED_5X7 = {
    "w2": "0 1 7 8 2 3 9 10 4 5 11 12 6 13 14 15 21 22 16 17 23 24 18 19 25 26 20 27 "
    "28 29 30 31 32 33 34",
    "w3": "0 1 2 7 8 9 14 15 16 3 4 5 10 11 12 17 18 19 6 13 20 "
    "21 22 23 28 29 30 24 25 26 31 32 33 27 34",
    "w7": _ROWS_5X7,
}

RANDOM = random.Random(0)
SIZES = [(1, 1), (1, 9), (9, 1), (7, 7), (14, 14)] + [
    (RANDOM.randint(1, 30), RANDOM.randint(1, 30)) for _ in range(195)
]


def parse(line: str) -> list[int]:
    return [-1 if token == "-" else int(token) for token in line.split()]


def order_of(scan: LocalScan, height: int, width: int, k: int = 0) -> list[int]:
    return scan.orders(height, width, CPU)[k].tolist()


@pytest.mark.parametrize("name", LOCAL_DIRECTIONS)
@pytest.mark.parametrize(("size", "orders"), [((4, 4), ORDERS_4X4), ((5, 7), ORDERS_5X7)])
def test_pencil_tables(size: tuple[int, int], orders: dict[str, str], name: str) -> None:
    assert order_of(LocalScan((name,)), *size) == parse(orders[name])


@pytest.mark.parametrize("name", UNPADDED_5X7)
def test_pencil_tables_without_padding(name: str) -> None:
    expected = parse(UNPADDED_5X7[name])
    assert order_of(LocalScan((name,), padded=False), 5, 7) == expected
    flipped = LocalScan((f"{name}_flip",), padded=False)
    assert order_of(flipped, 5, 7) == expected[::-1]


def test_directions_keep_their_own_length() -> None:
    """Shorter ones are followed by empty positions, also when they are read backwards."""
    order = LocalScan(("h_flip", "w2_flip", "v")).orders(2, 3, CPU)
    assert order.tolist() == [
        [5, 4, 3, 2, 1, 0, -1, -1],
        [-1, 5, -1, 2, 4, 3, 1, 0],
        [0, 3, 1, 4, 2, 5, -1, -1],
    ]


@pytest.mark.parametrize(
    ("padded", "names"),
    [(True, LOCAL_DIRECTIONS), (True, ("w3", "w5_flip", "v")), (False, LOCAL_DIRECTIONS)],
)
def test_bijective_and_exactly_invertible(padded: bool, names: tuple[str, ...]) -> None:
    scan = LocalScan(names, padded)
    for height, width in SIZES:
        size = height * width
        order, inverse = scan.tables(height, width, CPU)
        assert inverse.shape == (1, len(names), size)
        for k in range(len(names)):
            row = order[0, k]
            assert sorted(row[row >= 0].tolist()) == list(range(size))
            assert row[inverse[0, k]].tolist() == list(range(size))
        assert padded or order.shape == inverse.shape


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (9, 4), (14, 14), (25, 42)])
def test_round_trip(height: int, width: int) -> None:
    scan = LocalScan(LOCAL_DIRECTIONS)
    x = torch.randint(-8, 8, (2, height, width, 3)).float()
    assert torch.equal(scan.to_grid(scan.to_sequences(x), height, width), 8 * x)


@pytest.mark.parametrize(("height", "width"), SIZES[:40])
def test_padding_is_the_only_difference(height: int, width: int) -> None:
    padded = LocalScan(LOCAL_DIRECTIONS).orders(height, width, CPU)
    plain = LocalScan(LOCAL_DIRECTIONS, padded=False).orders(height, width, CPU)
    for with_empty, without in zip(padded, plain, strict=True):
        assert torch.equal(with_empty[with_empty >= 0], without)


def released_v_inverse(sequence: Tensor, height: int, width: int) -> Tensor:
    """LocalMamba, multi_mamba.py line 121: ``rearrange('b d (h w) -> b d (w h)', h=H, w=W)``."""
    return sequence.view(height, width).t().flatten()


@pytest.mark.parametrize("name", ["v", "v_flip"])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (25, 42)])
def test_columns_come_back_to_their_place_unlike_in_the_release(
    name: str, height: int, width: int
) -> None:
    tokens = torch.arange(float(height * width))
    scan = LocalScan((name,))
    xs = scan.to_sequences(tokens.view(1, height, width, 1))
    assert torch.equal(scan.to_grid(xs, height, width).flatten(), tokens)

    sequence = xs.flatten().flip(0) if name == "v_flip" else xs.flatten()
    in_place = released_v_inverse(sequence, height, width).eq(tokens)
    assert in_place.all() == (height == width)
    if (height, width) == (25, 42):
        assert in_place.sum() == 2, "the first and the last token only"


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (1, 1), (2, 1)])
def test_class_token_keeps_its_position(height: int, width: int) -> None:
    scan = LocalScan(LOCAL_DIRECTIONS, class_token=True)
    middle, tokens = height * width // 2, height * width + 1
    order, inverse = scan.tables(height, width, CPU)
    grid = LocalScan(LOCAL_DIRECTIONS).orders(height, width, CPU)
    assert inverse.shape[2] == tokens
    for k, row in enumerate(order[0]):
        assert row[middle] == middle
        assert row[inverse[0, k]].tolist() == list(range(tokens))
        rest = torch.cat([row[:middle], row[middle + 1 :]])
        assert torch.equal(rest - (rest > middle).long(), grid[k])


@pytest.mark.parametrize("names", [(), ("h", "w0"), ("w",), ("h_flop",), ("w7_flip_flip",), ("",)])
def test_unknown_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="names must be at least one of h, v, w<n>"):
        LocalScan(names)
