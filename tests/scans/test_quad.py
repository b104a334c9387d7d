"""The quadtree scan: orders by hand, invertibility, shift, averaging, and the release's quirk."""

import random
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.scans import QuadScan
from mmquad.scans.quad import SHIFT_CYCLE

CPU = torch.device("cpu")
RELEASED = QuadScan(nested=False, scores_follow_shift=False, shift_by_height=True)

#  0  1 |  2  3
#  4  5 |  6  7
# ------+------
#  8  9 | 10 11
# 12 13 | 14 15
COARSE_4X4 = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
# The released sequence on a 4x4 grid per chosen window: tokens summed in each slot, "-" for none.
# The chosen window's tokens stand where the raster order of all 16 one-token windows has them.
RELEASED_4X4 = [
    "0 1 - - 2+4 3+5 6 7 8 9 12 13 10 11 14 15",
    "0 1 2+4 3+5 - - 6 7 8 9 12 13 10 11 14 15",
    "0 1 4 5 2 3 6 7 8 9 - - 10+12 11+13 14 15",
    "0 1 4 5 2 3 6 7 8 9 10+12 11+13 - - 14 15",
]

# Sixteen slots per coarse window of an 8x8 grid; token = 8 row + column.
COARSE_8X8 = [
    [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27],
    [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31],
    [32, 33, 34, 35, 40, 41, 42, 43, 48, 49, 50, 51, 56, 57, 58, 59],
    [36, 37, 38, 39, 44, 45, 46, 47, 52, 53, 54, 55, 60, 61, 62, 63],
]
FINE_8X8 = [
    [0, 1, 8, 9, 2, 3, 10, 11, 16, 17, 24, 25, 18, 19, 26, 27],
    [4, 5, 12, 13, 6, 7, 14, 15, 20, 21, 28, 29, 22, 23, 30, 31],
    [32, 33, 40, 41, 34, 35, 42, 43, 48, 49, 56, 57, 50, 51, 58, 59],
    [36, 37, 44, 45, 38, 39, 46, 47, 52, 53, 60, 61, 54, 55, 62, 63],
]
# First window of the 8x8 map rolled by one token along both axes.
SHIFTED_COARSE_8X8 = {
    (1, 1): [63, 56, 57, 58, 7, 0, 1, 2, 15, 8, 9, 10, 23, 16, 17, 18],
    (-1, -1): [9, 10, 11, 12, 17, 18, 19, 20, 25, 26, 27, 28, 33, 34, 35, 36],
    (1, -1): [57, 58, 59, 60, 1, 2, 3, 4, 9, 10, 11, 12, 17, 18, 19, 20],
    (-1, 1): [15, 8, 9, 10, 23, 16, 17, 18, 31, 24, 25, 26, 39, 32, 33, 34],
}
SHIFTED_FINE_8X8 = [63, 56, 7, 0, 57, 58, 1, 2, 15, 8, 23, 16, 9, 10, 17, 18]

# Rows cut 3 | 2 and (2, 1) | (1, 1), columns cut 3 | 3 and (2, 1) | (2, 1); token = 6 row + column.
COARSE_5X6 = [
    [0, 1, 2, 6, 7, 8, 12, 13, 14],
    [3, 4, 5, 9, 10, 11, 15, 16, 17],
    [18, 19, 20, 24, 25, 26],
    [21, 22, 23, 27, 28, 29],
]
FINE_5X6 = [
    [0, 1, 6, 7, 2, 8, 12, 13, 14],
    [3, 4, 9, 10, 5, 11, 15, 16, 17],
    [18, 19, 20, 24, 25, 26],
    [21, 22, 23, 27, 28, 29],
]

RANDOM = random.Random(0)
SIZES = [(1, 1), (1, 2), (1, 7), (7, 1), (2, 2), (3, 3), (8, 8), (14, 14)] + [
    (RANDOM.randint(1, 40), RANDOM.randint(1, 40)) for _ in range(30)
]


def choose(window: int, batch: int = 1) -> Tensor:
    return torch.eye(4)[[window] * batch]


def read_order(scan: QuadScan, height: int, width: int, window: int) -> list[int]:
    """Tokens in the order the forward direction reads them."""
    tokens = torch.arange(1.0, height * width + 1).view(1, height, width, 1)
    sequences = scan.to_sequences(tokens, choose(window))[0, :, :, 0].long() - 1
    assert sequences[:, 1].tolist() == sequences[:, 0].tolist()[::-1], "direction 1 is the reverse"
    return sequences[:, 0].tolist()


def slots(scan: QuadScan, height: int, width: int, window: int) -> list[set[int]]:
    """Which tokens each slot of the forward direction sums."""
    size = height * width
    one_hot = torch.eye(size).view(1, height, width, size)
    sums = scan.to_sequences(one_hot, choose(window))[0, :, 0]
    return [set(row.nonzero()[:, 0].tolist()) for row in sums]


@pytest.mark.parametrize("window", range(4))
def test_4x4(window: int) -> None:
    """Fine windows are single tokens here, so every choice reads the coarse order."""
    assert QuadScan().tables(4, 4, CPU).order[0, 0].tolist() == COARSE_4X4
    assert read_order(QuadScan(), 4, 4, window) == COARSE_4X4


@pytest.mark.parametrize("window", range(4))
@pytest.mark.parametrize(
    ("size", "coarse", "fine"),
    [((8, 8), COARSE_8X8, FINE_8X8), ((5, 6), COARSE_5X6, FINE_5X6)],
    ids=["8x8", "5x6"],
)
def test_only_the_chosen_window_is_read_finely(size, coarse, fine, window: int) -> None:
    expected = [fine[q] if q == window else coarse[q] for q in range(4)]
    assert read_order(QuadScan(), *size, window) == list(chain(*expected))


@pytest.mark.parametrize("shift", SHIFT_CYCLE)
def test_shifted_8x8(shift: tuple[int, int]) -> None:
    """The first sixteen slots, with another window chosen."""
    assert read_order(QuadScan(shift), 8, 8, window=3)[:16] == SHIFTED_COARSE_8X8[shift]


def test_shifted_fine_8x8() -> None:
    assert read_order(QuadScan((1, 1)), 8, 8, window=0)[:16] == SHIFTED_FINE_8X8


def test_shift_is_a_roll_before_and_after() -> None:
    x = torch.randn(2, 17, 24, 3)
    shifted, plain = QuadScan((1, -1)), QuadScan()
    rolled = x.roll((2, -3), (1, 2))
    weight = choose(2, batch=2)
    xs = shifted.to_sequences(x, weight)
    assert torch.equal(xs, plain.to_sequences(rolled, weight))
    unrolled = plain.to_grid(xs, weight, 17, 24).roll((-2, 3), (1, 2))
    assert torch.equal(shifted.to_grid(xs, weight, 17, 24), unrolled)


def test_shift_amounts_are_half_a_fine_window_per_axis() -> None:
    assert QuadScan((1, -1)).amounts(40, 24) == (5, -3)
    assert QuadScan((-1, 1)).amounts(7, 56) == (0, 7)
    assert QuadScan().amounts(40, 24) == (0, 0)
    assert QuadScan((1, -1), shift_by_height=True).amounts(40, 24) == (5, -5)


def test_shift_cycle() -> None:
    assert SHIFT_CYCLE == ((1, 1), (-1, -1), (1, -1), (-1, 1))


@pytest.mark.parametrize("shift", [(0, 0), *SHIFT_CYCLE])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bijective_and_exactly_invertible(height: int, width: int, shift: tuple[int, int]) -> None:
    scan = QuadScan(shift)
    x = torch.randint(-8, 8, (4, height, width, 2)).float()
    weight = torch.eye(4)
    xs = scan.to_sequences(x, weight)
    assert xs.shape == (4, height * width, 2, 2)
    assert torch.equal(scan.to_grid(xs, weight, height, width), 2 * x)
    for window in range(4):
        assert sorted(read_order(scan, height, width, window)) == list(range(height * width))


@pytest.mark.parametrize("shift", [(0, 0), (1, -1)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_both_orders_give_every_window_the_same_slots(height: int, width: int, shift) -> None:
    """What makes the mixed order a permutation, and the windowed gradient exact."""
    tables = QuadScan(shift).tables(height, width, CPU)
    coarse, fine = tables.window[tables.order]
    assert torch.equal(coarse, fine)
    assert torch.equal(coarse[0], coarse[0].sort().values), "windows are visited in raster order"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10), (56, 56)])
def test_averages_equal_pooling_and_context_equals_bilinear_upsampling(height, width) -> None:
    tables = QuadScan().tables(height, width, CPU)
    score = torch.randn(3, 1, height, width)
    pooled = F.adaptive_avg_pool2d(score, 2)
    mean = score.flatten(1) @ tables.mean
    torch.testing.assert_close(mean, pooled.flatten(1))
    upsampled = F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(mean @ tables.upsample.t(), upsampled.flatten(1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_averages_and_interpolation_have_unit_weights(height: int, width: int) -> None:
    tables = QuadScan((1, 1)).tables(height, width, CPU)
    torch.testing.assert_close(tables.mean.sum(0), tables.occupied.float())
    torch.testing.assert_close(tables.upsample.sum(1), torch.ones(height * width))
    assert tables.occupied.tolist() == [True, width > 1, height > 1, height > 1 and width > 1]


def test_scores_follow_the_shift_unless_told_not_to() -> None:
    score = torch.randn(1, 16, 24)
    moved = score.roll((2, -3), (1, 2)).flatten(1) @ QuadScan().tables(16, 24, CPU).mean
    follows = score.flatten(1) @ QuadScan((1, -1)).tables(16, 24, CPU).mean
    torch.testing.assert_close(follows, moved)
    stays = QuadScan((1, -1), scores_follow_shift=False).tables(16, 24, CPU)
    assert torch.equal(stays.mean, QuadScan().tables(16, 24, CPU).mean)
    assert torch.equal(stays.upsample, QuadScan().tables(16, 24, CPU).upsample)


def test_released_fine_order_is_the_raster_order_of_all_fine_windows() -> None:
    fine = RELEASED.tables(8, 8, CPU).order[1, 0]
    assert fine[:16].tolist() == [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]
    assert RELEASED.tables(8, 8, CPU).order[0, 0].tolist() == list(chain(*COARSE_8X8))


@pytest.mark.parametrize("window", range(4))
def test_released_4x4(window: int) -> None:
    found = ["+".join(map(str, sorted(slot))) or "-" for slot in slots(RELEASED, 4, 4, window)]
    assert " ".join(found) == RELEASED_4X4[window]


@pytest.mark.parametrize("window", range(4))
def test_released_quirk_collisions(window: int) -> None:
    """An eighth of the released sequence holds two tokens, an eighth none: not a permutation."""
    found = slots(RELEASED, 8, 8, window)
    assert [sum(len(slot) == n for slot in found) for n in range(4)] == [8, 48, 8, 0]
    assert set().union(*found) == set(range(64)), "no token is lost"
    x = torch.randn(1, 8, 8, 2)
    xs = RELEASED.to_sequences(x, choose(window))
    assert not torch.equal(RELEASED.to_grid(xs, choose(window), 8, 8), 2 * x)
