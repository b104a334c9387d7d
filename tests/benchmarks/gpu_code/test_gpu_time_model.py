"""Estimates of time, against hand-made records."""

import dataclasses
import math

import pytest

from benchmarks.gpu_code.figures import Figures, read_record
from benchmarks.gpu_code.time_model import (
    Assumptions,
    Estimate,
    _Launch,
    estimate_layer,
    estimate_table,
)
from benchmarks.scan_layers import LayerCase, gpu_cases
from mmquad.scans import CrossScan, QuadScan

# One multiprocessor, one instruction a second and scheduler with eight warps, no time in between.
PLAIN = Assumptions(1, 1.0, 1e30, 0.0, ((0, 0.0), (8, 1.0), (16, 1.0)))


@pytest.mark.parametrize(
    ("changed", "seconds", "bound"),
    [
        # Eight warps of ten positions, 100 instructions each: 8 x 10 x 100 over four schedulers.
        ({}, 2000, "issue"),
        ({"blocks": 9}, 4000, "issue"),  # a second wave
        ({"blocks": 4, "resident": 8}, 2000, "issue"),  # half the warps, half as fast
        ({"blocks": 16, "resident": 16}, 4000, "issue"),  # sixteen warps share the slots
        ({"special": 20.0}, 20 * 160, "special functions"),  # each takes eight cycles
        ({"bytes": 5e33}, 5000, "bytes"),
    ],
)
def test_a_launch_takes_as_long_as_its_slowest_part(
    changed: dict, seconds: float, bound: str
) -> None:
    launch = _Launch(100.0, 1.0, blocks=8, resident=8, threads=32, positions=10, bytes=0.0)
    estimate = launch._replace(**changed).estimate(PLAIN)
    assert estimate == Estimate(pytest.approx(seconds), bound)


def test_multiprocessors_share_the_blocks() -> None:
    launch = _Launch(100.0, 1.0, blocks=16, resident=8, threads=32, positions=10, bytes=0.0)
    assert launch.estimate(PLAIN).seconds == pytest.approx(4000)
    assert launch.estimate(PLAIN._replace(multiprocessors=2)).seconds == pytest.approx(2000)
    assert launch.estimate(PLAIN._replace(launch_seconds=5.0)).seconds == pytest.approx(4005)


def record(totals: dict[str, float]) -> dict[str, Figures]:
    """Of kernels that execute what is named; more ranks or windows cost nothing otherwise."""
    figures = {}
    for name in read_record()[0]:
        base = name.removesuffix(", R=24").removesuffix(", windows")
        total = totals.get(name, totals.get(base, 0.0))
        figures[name] = Figures("", 32, 0, 0, 64, 8, total, {"special function": 0.0}, 1.0)
    return figures


def seconds(case: LayerCase, totals: dict[str, float]) -> list[float]:
    """Forward and backward."""
    return [each.seconds for each in estimate_layer(case, record(totals), PLAIN)]


# So many samples that there is one segment.
CROSS = LayerCase("cross", CrossScan(), 1 << 10, 64, 64, 128, 1, 6)
QUAD = dataclasses.replace(CROSS, scan=QuadScan((1, 1)))


def test_a_layer_launches_every_direction_on_its_own() -> None:
    for phase, name in enumerate(("forward, N=1", "backward, N=1")):
        two, four = (seconds(case, {name: 8.0}) for case in (QUAD, CROSS))
        # 1024 samples of 4096 positions for four warps each, by four schedulers.
        assert two[phase] == pytest.approx(2 * 1024 * 4096 * 8, rel=1e-6)
        assert four[phase] == pytest.approx(2 * two[phase])
        assert two[1 - phase] == pytest.approx(0, abs=1e-3)


def test_unmerged_directions_are_one_launch() -> None:
    apart = dataclasses.replace(CROSS, merge=False)
    launches = PLAIN._replace(launch_seconds=1e12)
    for case, forward in ((CROSS, 4), (apart, 1)):
        estimates = estimate_layer(case, record({}), launches)
        assert [round(each.seconds / 1e12) for each in estimates] == [forward, 4]
    merged, unmerged = (seconds(case, {"forward, N=1": 8.0})[0] for case in (CROSS, apart))
    assert unmerged == pytest.approx(merged)


def test_ranks_and_windows_cost_what_they_do_in_the_record() -> None:
    base = {"forward, N=1": 10.0, "forward, N=1, R=24": 28.0}
    many = dataclasses.replace(CROSS, ranks=48)
    assert seconds(many, base)[0] == pytest.approx(5.2 * seconds(CROSS, base)[0])
    base = {"backward, N=1": 10.0, "backward, N=1, windows": 13.0}
    assert seconds(QUAD, base)[1] == pytest.approx(1.3 / 2 * seconds(CROSS, base)[1])


def test_more_states_take_the_next_kernel() -> None:
    for states, name in ((2, "forward, N=4"), (16, "forward, N=16")):
        case = dataclasses.replace(CROSS, states=states)
        assert seconds(case, {name: 8.0})[0] > 1


def test_segments_need_the_local_phase() -> None:
    """One sample of few channels is cut into segments, each by itself first."""
    short = dataclasses.replace(CROSS, batch=1)
    for phase, name in enumerate(("local forward, N=1", "local backward, N=1")):
        assert seconds(CROSS, {name: 8.0})[phase] == pytest.approx(0, abs=1e-3)
        assert seconds(short, {name: 8.0})[phase] > 1
        two = seconds(dataclasses.replace(QUAD, batch=1), {name: 8.0})[phase]
        assert seconds(short, {name: 8.0})[phase] == pytest.approx(2 * two)
    assert min(seconds(short, {"combine": 8.0})) > 1


def test_a_table_begins_with_its_assumptions() -> None:
    cases = [case for case in gpu_cases() if case.batch == 2]
    lines = estimate_table(cases, read_record()[0], Assumptions()).splitlines()
    assert lines[0].startswith("estimate, not measured")
    for assumed in ("132 multiprocessors at 1.755 GHz", "4.3 TB/s", "2.5 us", "60% with 8"):
        assert assumed in lines[0]
    assert [line.split(" | ")[0] for line in lines[4:]] == [f"| {case.name}" for case in cases]
    for line in lines[4:]:
        forward, backward = (float(line.split(" | ")[n]) for n in (1, 3))
        assert 1 < forward < backward < math.inf
