"""Both scans on every backend that runs here, against float64; covers benchmarks/check_scan.py."""

import itertools

import pytest
import torch

from benchmarks.scan_accuracy import (
    DIRECTIONS,
    LIMITS,
    OPS,
    SHAPES,
    STATES,
    Point,
    check_point,
    extreme_points,
    lasting_points,
    runnable,
)

CPU = torch.device("cpu")


def _cover() -> list[Point]:
    """Every length in float32, with states and directions in turns; narrow types for some."""
    points = []
    for op, (i, length) in itertools.product(OPS, enumerate(SHAPES)):
        states, directions = STATES[i % len(STATES)], DIRECTIONS[i % len(DIRECTIONS)]
        dtypes = list(LIMITS) if length in (2, 65, 784) else [torch.float32]
        points += [Point(op, length, states, directions, d, strided=i % 2 == 1) for d in dtypes]
    # Many states with few directions and few with many, which the turns above leave out.
    points += [Point(op, 196, 16, 4, torch.float32) for op in OPS]
    points += [Point(op, 63, 1, 4, torch.float32, strided=True) for op in OPS]
    return points


def _check(point: Point) -> None:
    for result in check_point(point, runnable(point, CPU), CPU):
        for name, error in result.errors.items():
            # Written so that NaN fails.
            assert error <= LIMITS[point.dtype], f"{result.backend}: {name} is off by {error:.1e}"


@pytest.mark.parametrize("point", _cover(), ids=str)
def test_errors_stay_below_the_limits(point: Point) -> None:
    _check(point)


@pytest.mark.parametrize("point", list(extreme_points())[::3], ids=str)
def test_extreme_steps_and_decays(point: Point) -> None:
    _check(point)


@pytest.mark.parametrize("point", lasting_points(), ids=str)
def test_rounded_decays_do_not_add_up(point: Point) -> None:
    _check(point)
