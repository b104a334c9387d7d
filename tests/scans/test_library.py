"""Tables in graphs: one op finds them, nothing builds them, whatever the size."""

import io
from collections import Counter

import pytest
import torch
from test_cache import SCANS, RowScan, every_scan, there_and_back
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from mmquad.scans import CrossScan, FixedScan, LocalScan, QuadScan, library
from mmquad.scans.cache import TableCache
from mmquad.scans.library import constant_tables, describe, scan_named, scan_tables_op

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 9), (8, 1), (7, 7), (5, 8), (14, 28), (23, 17)]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> TableCache:
    empty = TableCache(2**20)
    monkeypatch.setattr(library, "table_cache", empty)
    return empty


@every_scan
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_shapes_are_those_of_the_tables(
    scan: FixedScan | QuadScan, height: int, width: int
) -> None:
    tables = scan.build(height, width)
    assert scan.shapes(height, width) == [(tuple(t.shape), t.dtype) for t in tables]
    assert all(table.is_contiguous() for table in tables)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("names", ["h v", "w2", "w7_flip", "h w2 w7", "v w3 w2_flip w5"])
def test_positions_of_windows(names: str, class_token: bool) -> None:
    scan = LocalScan(tuple(names.split()), class_token=class_token)
    for size in SIZES:
        assert scan.shapes(*size)[0][0] == tuple(scan.build(*size)[0].shape)


@pytest.mark.parametrize("scan", [*SCANS, RowScan(), LocalScan(("w3",), False, True)])
def test_a_scan_is_found_by_its_description(scan: FixedScan | QuadScan) -> None:
    again = scan_named(describe(scan))
    assert type(again) is type(scan)
    assert again == scan


def test_a_scan_that_nobody_defined() -> None:
    with pytest.raises(ValueError, match=r"got 'elsewhere\.SpiralScan': import the module"):
        scan_named("elsewhere.SpiralScan(3,)")
    assert describe(LocalScan(("h",))) == "mmquad.scans.local.LocalScan(('h',), True, False)"


@every_scan
def test_the_op_keeps_what_torch_asks_of_ops(scan: FixedScan | QuadScan) -> None:
    torch.library.opcheck(scan_tables_op, (describe(scan), 5, 8, CPU))


def test_who_overwrites_what_the_op_gave_harms_nobody() -> None:
    expected = CrossScan().build(3, 4)[0]
    for _ in range(2):
        order, _ = scan_tables_op(describe(CrossScan()), 3, 4, CPU)
        assert torch.equal(order, expected)
        order.zero_()
    assert torch.equal(CrossScan().tables(3, 4, CPU).order, expected)


@every_scan
@pytest.mark.parametrize("real_first", [True, False])
def test_fake_tensors(scan: FixedScan | QuadScan, real_first: bool, cache: TableCache) -> None:
    x = torch.randn(2, 8, 9, 3)
    if real_first:
        there_and_back(scan, x)
    with FakeTensorMode() as mode:
        y = there_and_back(scan, mode.from_tensor(x))
        assert y.shape == x.shape
    assert len(cache) == real_first
    assert type(there_and_back(scan, x)) is Tensor


class Roundtrip(nn.Module):
    def __init__(self, scan: FixedScan | QuadScan) -> None:
        super().__init__()
        self.scan = scan

    def forward(self, x: Tensor) -> Tensor:
        return there_and_back(self.scan, x)


@every_scan
def test_one_graph_for_all_sizes_holds_no_building(scan: FixedScan | QuadScan) -> None:
    torch._dynamo.reset()
    calls: list[Counter] = []

    def record(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
        calls.append(Counter(getattr(node.target, "__name__", "") for node in nodes))
        return graph

    compiled = torch.compile(Roundtrip(scan), fullgraph=True, backend=record, dynamic=True)
    for height, width in [(8, 9), (14, 21), (5, 17), (7, 3)]:
        x = torch.randn(2, height, width, 3, requires_grad=True)
        upstream = torch.randn(2, height, width, 3)
        y, expected = compiled(x), there_and_back(scan, x)
        torch.testing.assert_close(y, expected)
        mine, theirs = (torch.autograd.grad(z, x, upstream)[0] for z in (y, expected))
        torch.testing.assert_close(mine, theirs)
    assert len(calls) == 1
    assert calls[0]["scan_tables.default"] == 2
    assert not {"argsort", "sort", "arange", "scatter", "roll", "cat"} & set(calls[0])
    torch._dynamo.reset()


@every_scan
def test_exported_for_all_sizes_and_read_back(scan: FixedScan | QuadScan) -> None:
    dynamic = {1: torch.export.Dim("height", min=4), 2: torch.export.Dim("width", min=4)}
    example = torch.randn(2, 8, 9, 3)
    program = torch.export.export(
        Roundtrip(scan), (example,), dynamic_shapes=(dynamic,), strict=False
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    module = torch.export.load(file).module()
    for size in [(8, 9), (13, 21)]:
        x = torch.randn(2, *size, 3)
        torch.testing.assert_close(module(x), there_and_back(scan, x))


@every_scan
def test_a_graph_for_one_size_may_hold_its_tables_as_data(scan: FixedScan | QuadScan) -> None:
    x = torch.randn(2, 8, 9, 3)
    for constant in (True, False):
        if constant:
            with constant_tables(torch.int64):
                program = torch.export.export(Roundtrip(scan), (x,), strict=False)
        else:
            program = torch.export.export(Roundtrip(scan), (x,), strict=False)
        looked_up = any("scan_tables" in str(node.target) for node in program.graph.nodes)
        assert looked_up != constant
        held = {value.dtype for value in program.constants.values()}
        assert (torch.int64 in held) == constant
        assert torch.int32 not in held
        torch.testing.assert_close(program.module()(x), there_and_back(scan, x))
