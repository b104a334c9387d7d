"""What results must not depend on: the run, the number of threads, where chunks begin."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from cotangents import project
from torch import Tensor

from benchmarks.scan_accuracy import OPS, Point, values
from mmquad.ops import directional_scan
from mmquad.ops.directional_scan import BACKENDS
from mmquad.scans import CrossScan

CPU = torch.device("cpu")

# 70 channels and 1 or 2 samples: few tasks, so that many threads divide what they can.
POINTS = [
    Point("directional_scan", 65, 2, 2, torch.float32),
    Point("directional_scan", 196, 1, 4, torch.float32),
    Point("selective_scan", 65, 2, 2, torch.float32),
    Point("selective_scan", 196, 1, 4, torch.float32),
]


def on_cpu(op: str) -> list[str]:
    return [
        backend.name
        for backend in OPS[op]
        if backend.name in ("native", "chunked") and not backend.unavailable()
    ]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_twenty_runs_agree_bit_for_bit(point: Point) -> None:
    for backend in on_cpu(point.op):
        first = values(point, backend, CPU)
        for _ in range(19):
            again = values(point, backend, CPU)
            assert all(torch.equal(first[name], again[name]) for name in first), backend


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize("count", [2, 3, 5, 8, 32])
def test_native_results_do_not_depend_on_threads(count: int, point: Point) -> None:
    if "native" not in on_cpu(point.op):
        pytest.skip("; ".join(OPS[point.op]["native"].unavailable()))
    with threads(1):
        alone = values(point, "native", CPU)
    with threads(count):
        together = values(point, "native", CPU)
    for name, value in alone.items():
        assert torch.equal(value, together[name]), name


@pytest.mark.parametrize("backend", [b.name for b in BACKENDS if not b.unavailable()])
@pytest.mark.parametrize("shift", [1, 31, 63, 64, 100])
def test_outputs_do_not_depend_on_where_chunks_begin(shift: int, backend: str) -> None:
    """Empty positions before the first token leave the state at zero and move every chunk."""
    torch.manual_seed(0)
    length, channels, directions = 196, 40, 4
    cross = CrossScan().tables(14, 14, CPU)
    inputs = (
        torch.randn(1, length, channels),
        torch.randn(1, length, directions * 4),
        torch.randn(directions, channels, 2),
        torch.randn(directions, channels),
        -torch.rand(directions, channels, 1),
        torch.randn(directions, channels),
    )
    empty = torch.full((1, directions, shift), -1)
    tables = {
        "plain": (cross.order, cross.inverse),
        "shifted": (torch.cat([empty, cross.order], dim=2), cross.inverse + shift),
    }
    if BACKENDS[backend].unsupported(
        **dict(zip(("x", "z", "dt_weight"), inputs, strict=False)),
        A=inputs[4],
        order=tables["shifted"][0],
        merge=True,
    ):
        pytest.skip("takes no empty positions here")
    results = {}
    for name, (order, inverse) in tables.items():
        scan: Callable[..., Tensor] = functools.partial(directional_scan, backend=backend)
        leaves = [leaf.clone().requires_grad_() for leaf in inputs]
        y = scan(*leaves, order, inverse)
        results[name] = (y, *torch.autograd.grad(project(y), leaves))
    for plain, shifted in zip(results["plain"], results["shifted"], strict=True):
        assert (plain - shifted).norm() <= 2e-6 * plain.norm()
