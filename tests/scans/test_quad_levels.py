"""Quadtrees of other resolutions and of three levels: orders by hand, bijections, gradients."""

import random
from itertools import chain

import pytest
import torch
from torch import Tensor

from mmquad.scans import QuadScan
from mmquad.scans.quad import CHILDREN, SHIFT_CYCLE

CPU = torch.device("cpu")

# An 8 x 8 map in 4 x 4 coarse windows of 2 x 2 tokens, in raster order; token = 8 row + column.
SIXTEENTHS_8X8 = [
    *([0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]),
    *([16, 17, 24, 25], [18, 19, 26, 27], [20, 21, 28, 29], [22, 23, 30, 31]),
    *([32, 33, 40, 41], [34, 35, 42, 43], [36, 37, 44, 45], [38, 39, 46, 47]),
    *([48, 49, 56, 57], [50, 51, 58, 59], [52, 53, 60, 61], [54, 55, 62, 63]),
]
# The first quarter of a 16 x 16 map, chosen, with its last part read in parts; token = 16 row + c.
THREE_LEVELS_16X16 = [
    *(0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51),
    *(4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39, 52, 53, 54, 55),
    *(64, 65, 66, 67, 80, 81, 82, 83, 96, 97, 98, 99, 112, 113, 114, 115),
    *(68, 69, 84, 85, 70, 71, 86, 87, 100, 101, 116, 117, 102, 103, 118, 119),
]

RANDOM = random.Random(1)
SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (5, 5), (16, 16)] + [
    (RANDOM.randint(1, 40), RANDOM.randint(1, 40)) for _ in range(25)
]
SCANS = [
    QuadScan(levels=3),
    QuadScan((1, -1), levels=3),
    QuadScan(coarse_level=0),
    QuadScan(coarse_level=0, levels=3),
    QuadScan((-1, 1), coarse_level=2),
    QuadScan((1, 1), coarse_level=2, levels=3),
]


def describe(scan: QuadScan) -> str:
    shifted = "shifted" if any(scan.shift) else "plain"
    return f"level{scan.coarse_level}-levels{scan.levels}-{shifted}"


each_scan = pytest.mark.parametrize("scan", SCANS, ids=describe)


def random_weights(scan: QuadScan, batch: int) -> Tensor:
    """Any number of coarse windows; with three levels, one part of each coarse window."""
    weight = torch.randint(0, 2, (batch, scan.windows)).float()
    if scan.levels == 2:
        return weight
    parts = torch.eye(CHILDREN)[torch.randint(0, CHILDREN, (batch, scan.windows))]
    return torch.cat([weight, parts.flatten(1)], dim=1)


def read_orders(scan: QuadScan, height: int, width: int, weight: Tensor) -> list[list[int]]:
    """For every sample, tokens in the order the forward direction reads them."""
    tokens = torch.arange(1.0, height * width + 1).view(1, height, width, 1)
    sequences = scan.to_sequences(tokens.expand(len(weight), -1, -1, -1), weight)[..., 0].long() - 1
    assert torch.equal(sequences[:, :, 1], sequences[:, :, 0].flip(1)), "direction 1 is the reverse"
    return sequences[:, :, 0].tolist()


@each_scan
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bijective_and_exactly_invertible(height: int, width: int, scan: QuadScan) -> None:
    torch.manual_seed(height * width)
    weight = random_weights(scan, batch=4)
    x = torch.randint(-8, 8, (4, height, width, 2)).float()
    xs = scan.to_sequences(x, weight)
    assert xs.shape == (4, height * width, 2, 2)
    assert torch.equal(scan.to_grid(xs, weight, height, width), 2 * x)
    for order in read_orders(scan, height, width, weight):
        assert sorted(order) == list(range(height * width))


@each_scan
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_order_gives_every_window_the_same_positions(height, width, scan: QuadScan) -> None:
    """Each level keeps the windows of the level above: what makes every mixture a permutation."""
    tables = scan.tables(height, width, CPU)
    coarse = tables.window[tables.order]
    assert coarse.eq(coarse[0]).all()
    if tables.fine is not None:
        fine = tables.fine.window[tables.order[1:]]
        assert torch.equal(fine[0], fine[1])
        assert torch.equal(tables.fine.window // CHILDREN, tables.window)


@each_scan
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_averages_and_interpolation_have_unit_weights(height, width, scan: QuadScan) -> None:
    tables = scan.tables(height, width, CPU)
    torch.testing.assert_close(tables.mean.sum(0), tables.occupied.float())
    torch.testing.assert_close(tables.upsample.sum(1), torch.ones(height * width))
    assert tables.occupied.sum() == scan.occupied_windows(height, width)
    assert tables.upsample[:, ~tables.occupied].eq(0).all()
    if tables.fine is not None:
        holds_tokens = torch.bincount(tables.fine.window, minlength=4 * scan.windows) > 0
        torch.testing.assert_close(tables.fine.mean.sum(0), holds_tokens.float())
        # Of an empty window every part may be "chosen": otherwise its softmax would be undefined.
        assert torch.equal(
            tables.fine.occupied, holds_tokens | ~tables.occupied.repeat_interleave(CHILDREN)
        )


def test_sixteen_coarse_windows_by_hand() -> None:
    scan = QuadScan(coarse_level=2)
    none = torch.zeros(1, 16)
    assert read_orders(scan, 8, 8, none) == [list(chain(*SIXTEENTHS_8X8))]
    # On 16 x 16 tokens a chosen window has 4 x 4, read as four of 2 x 2.
    sixth = torch.eye(16)[[5]]
    expected = [68, 69, 84, 85, 70, 71, 86, 87, 100, 101, 116, 117, 102, 103, 118, 119]
    assert read_orders(scan, 16, 16, sixth)[0][5 * 16 : 6 * 16] == expected


def test_three_levels_by_hand() -> None:
    weight = torch.zeros(1, 20)
    weight[0, [0, 4 + 3]] = 1  # the first window, and its last part
    order = read_orders(QuadScan(levels=3), 16, 16, weight)[0]
    assert order[:64] == THREE_LEVELS_16X16
    assert order[64:] == read_orders(QuadScan(), 16, 16, torch.zeros(1, 4))[0][64:]


def test_parts_of_other_windows_do_not_matter() -> None:
    scan = QuadScan(levels=3)
    weight = torch.zeros(1, 20)
    weight[0, 1] = 1
    other = weight.clone()
    other[0, 4 + 4 * 2] = 1  # a part of window 2, which is not chosen
    assert read_orders(scan, 16, 16, weight) == read_orders(scan, 16, 16, other)
    assert read_orders(scan, 16, 16, weight) == read_orders(QuadScan(), 16, 16, weight[:, :4])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14), (1, 6)])
def test_three_levels_from_the_whole_map_are_the_default_quadtree(height, width) -> None:
    """The whole map always chosen, one of its quarters read finely: an independent way to it."""
    torch.manual_seed(0)
    three, two = QuadScan(coarse_level=0, levels=3), QuadScan()
    x = torch.randn(4, height, width, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, height, width, 3, dtype=torch.float64)
    weight = torch.eye(4, dtype=torch.float64).requires_grad_()
    whole = torch.ones(4, 1, dtype=torch.float64)
    found = []
    for scan, given in ((three, torch.cat([whole, weight], dim=1)), (two, weight)):
        xs = scan.to_sequences(x, given)
        y = scan.to_grid(xs.sin(), given, height, width)
        found.append((xs, y, *torch.autograd.grad((y * upstream).sum(), (x, weight))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert height == 1 or found[0][3].abs().max() > 0


def test_gradient_of_three_levels() -> None:
    """At weights between 0 and 1 too: the masks are products, and add up to 1."""
    torch.manual_seed(0)
    scan = QuadScan((1, 1), levels=3)
    x = torch.randn(2, 8, 9, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 20, dtype=torch.float64, requires_grad=True)

    def round_trip(x: Tensor, weight: Tensor) -> Tensor:
        return scan.to_grid(scan.to_sequences(x, weight).sin(), weight, 8, 9)

    assert torch.autograd.gradcheck(round_trip, (x, weight), fast_mode=True)


def test_shift_is_half_a_fine_window() -> None:
    assert QuadScan((1, -1), coarse_level=0).amounts(40, 24) == (10, -6)
    assert QuadScan((1, -1), coarse_level=2).amounts(48, 32) == (3, -2)
    assert QuadScan((1, -1), levels=3).amounts(40, 24) == (5, -3)
    x = torch.randn(2, 33, 48, 1)
    for shift in SHIFT_CYCLE:
        shifted, plain = (QuadScan(s, coarse_level=2, levels=3) for s in (shift, (0, 0)))
        weight = random_weights(plain, 2)
        rolled = x.roll(shifted.amounts(33, 48), (1, 2))
        xs = shifted.to_sequences(x, weight)
        assert torch.equal(xs, plain.to_sequences(rolled, weight))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coarse_level": -1}, "coarse_level must be at least 0"),
        ({"levels": 1}, "levels 2 or 3; got 1 and 1"),
        ({"levels": 4}, "levels 2 or 3; got 1 and 4"),
        ({"levels": 3, "nested": False}, "three levels exist in nested order only"),
    ],
)
def test_impossible_quadtrees(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuadScan(**settings)
