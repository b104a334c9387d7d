"""The cache of tables: shared, bounded, and not poisoned by tracing or inference mode."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from mmquad.scans import CrossScan, FixedScan, LocalScan, QuadScan
from mmquad.scans import base as scans_base

CPU = torch.device("cpu")
SCANS = [CrossScan(), LocalScan(("w7", "v")), QuadScan((1, -1)), QuadScan(nested=False)]
every_scan = pytest.mark.parametrize("scan", SCANS, ids=["cross", "local", "quad", "quad-released"])


def cached(cache: dict) -> list:
    """All tables; quadtrees of two levels lack those of the third."""
    return [table for tables in cache.values() for table in tables if table is not None]


@dataclasses.dataclass(frozen=True)
class RowScan(FixedScan):
    """Rows only: no fields, like ``CrossScan``, so its hash may be equal."""

    @property
    def directions(self) -> int:
        return 1

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        return torch.arange(height * width, device=device)[None]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> dict:
    empty: dict = {}
    monkeypatch.setattr(scans_base, "_cache", empty)
    return empty


def there_and_back(scan: FixedScan | QuadScan, x: Tensor) -> Tensor:
    height, width = x.shape[1:3]
    if isinstance(scan, FixedScan):
        return scan.to_grid(scan.to_sequences(x), height, width)
    weight = torch.tensor([[0.0, 1, 0, 0]]).expand(x.shape[0], -1)
    return scan.to_grid(scan.to_sequences(x, weight), weight, height, width)


@every_scan
def test_built_once_per_grid(scan: FixedScan | QuadScan, cache: dict) -> None:
    tables = scan.tables(4, 6, CPU)
    assert scan.tables(4, 6, CPU) is tables
    assert dataclasses.replace(scan).tables(4, 6, CPU) is tables, "equal scans share tables"
    assert scan.tables(6, 4, CPU) is not tables
    assert len(cache) == 2


def test_scans_do_not_share_tables_by_accident() -> None:
    assert CrossScan().tables(2, 2, CPU).order.shape == (1, 4, 4)
    assert RowScan().tables(2, 2, CPU).order.shape == (1, 1, 4)
    assert not torch.equal(
        QuadScan((1, 1)).tables(8, 8, CPU).order, QuadScan().tables(8, 8, CPU).order
    )


def test_bounded(cache: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans_base, "_CACHE_SIZE", 3)
    for width in range(1, 8):
        CrossScan().tables(1, width, CPU)
    assert [key[2] for key in cache] == [5, 6, 7], "the oldest tables go first"


@every_scan
def test_training_after_inference_mode(scan: FixedScan | QuadScan, cache: dict) -> None:
    x = torch.randn(2, 8, 9, 3)
    with torch.inference_mode():
        there_and_back(scan, x)
    assert cache
    x.requires_grad_()
    there_and_back(scan, x).sum().backward()
    assert x.grad is not None


@every_scan
@pytest.mark.parametrize("real_first", [True, False])
def test_fake_tensors(scan: FixedScan | QuadScan, real_first: bool, cache: dict) -> None:
    x = torch.randn(2, 8, 9, 3)
    if real_first:
        there_and_back(scan, x)
    with FakeTensorMode() as mode:
        y = there_and_back(scan, mode.from_tensor(x))
        assert y.shape == x.shape
    assert len(cache) == real_first
    assert type(there_and_back(scan, x)) is Tensor
    assert all(type(table) is Tensor for table in cached(cache))


@every_scan
def test_compiles_without_graph_breaks(scan: FixedScan | QuadScan, cache: dict) -> None:
    torch._dynamo.reset()
    x = torch.randn(2, 8, 9, 3)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(scan, x), there_and_back(scan, x))
    assert all(type(table) is Tensor for table in cached(cache))
    torch._dynamo.reset()
