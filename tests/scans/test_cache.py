"""The cache of tables: shared, bounded by bytes, for all threads, streams and processes."""

import contextlib
import copy
import multiprocessing
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmquad.scans import CrossScan, FixedScan, LocalScan, QuadScan, SnakeScan, library
from mmquad.scans import cache as cache_module
from mmquad.scans.cache import TableCache

CPU = torch.device("cpu")
SCANS = [
    CrossScan(),
    SnakeScan(),
    LocalScan(("w7", "v")),
    QuadScan((1, -1)),
    QuadScan(nested=False),
    QuadScan(levels=3),
]
IDS = ["cross", "snake", "local", "quad", "quad-released", "quad-three-levels"]
every_scan = pytest.mark.parametrize("scan", SCANS, ids=IDS)
TOKEN_OF_CROSS = 2 * 4 * 4  # bytes: order and inverse, four directions, int32


class RowScan(FixedScan):
    """Rows only: no fields, like ``CrossScan``, so its hash may be equal."""

    @property
    def directions(self) -> int:
        return 1

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        return torch.arange(height * width, device=device)[None]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> TableCache:
    empty = TableCache(2**20)
    monkeypatch.setattr(library, "table_cache", empty)
    return empty


def equal(tables: tuple, scan: FixedScan | QuadScan, height: int, width: int) -> bool:
    """Whether these are a scan's tables, computed again."""
    flat = [t for t in tables if isinstance(t, Tensor)]
    flat += [t for part in tables if isinstance(part, tuple) for t in part]
    fresh = scan.build(height, width)
    return len(flat) == len(fresh) and all(map(torch.equal, flat, fresh))


def there_and_back(scan: FixedScan | QuadScan, x: Tensor) -> Tensor:
    height, width = x.shape[1:3]
    if isinstance(scan, FixedScan):
        return scan.to_grid(scan.to_sequences(x), height, width)
    parts = 5 if scan.levels == 3 else 1
    weight = torch.tensor([[0.0, 1, 0, 0] * parts]).expand(x.shape[0], -1)
    return scan.to_grid(scan.to_sequences(x, weight), weight, height, width)


@every_scan
def test_built_once_per_grid(scan: FixedScan | QuadScan, cache: TableCache) -> None:
    tables = scan.tables(4, 6, CPU)
    assert equal(tables, scan, 4, 6)
    assert scan.tables(4, 6, CPU) is tables
    assert copy.deepcopy(scan).tables(4, 6, CPU) is tables, "equal scans share tables"
    assert scan.tables(6, 4, CPU) is not tables
    assert scan.tables(4, 6, torch.device("meta")).order.is_meta
    assert len(cache) == 3


def test_scans_do_not_share_tables_by_accident() -> None:
    assert CrossScan().tables(2, 2, CPU).order.shape == (1, 4, 4)
    assert RowScan().tables(2, 2, CPU).order.shape == (1, 1, 4)
    assert not torch.equal(
        QuadScan((1, 1)).tables(8, 8, CPU).order, QuadScan().tables(8, 8, CPU).order
    )


def kept(cache: TableCache, width: int) -> bool:
    """Whether the tables of one row exist. Asking is no use of them."""
    return any(key.width == width for key in cache._entries)


def test_bounded_by_bytes(cache: TableCache) -> None:
    cache.max_bytes = 20 * TOKEN_OF_CROSS
    for width in (8, 7, 5):
        CrossScan().tables(1, width, CPU)
    assert cache.bytes == 20 * TOKEN_OF_CROSS
    CrossScan().tables(1, 8, CPU)
    CrossScan().tables(1, 1, CPU)
    assert [kept(cache, w) for w in (8, 7, 5, 1)] == [True, False, True, True], "the oldest use"
    assert cache.bytes == 14 * TOKEN_OF_CROSS
    assert CrossScan().tables(1, 21, CPU).order.shape[2] == 21, "too large to be kept"
    assert (len(cache), cache.bytes) == (0, 0)


def test_the_bound_can_be_changed(cache: TableCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (3, 4):
        CrossScan().tables(1, width, CPU)
    cache.max_bytes = 4 * TOKEN_OF_CROSS
    assert (len(cache), cache.bytes) == (1, 4 * TOKEN_OF_CROSS)
    cache.clear()
    assert (len(cache), cache.bytes, cache.max_bytes) == (0, 0, 4 * TOKEN_OF_CROSS)
    cache.max_bytes = 0
    assert CrossScan().tables(1, 2, CPU) is not CrossScan().tables(1, 2, CPU)
    with pytest.raises(ValueError, match="max_bytes must be at least 0, got -1"):
        cache.max_bytes = -1
    monkeypatch.setenv("MMQUAD_TABLE_CACHE_MB", "3")
    assert cache_module._bytes_from_environment() == 3 * 2**20
    monkeypatch.setenv("MMQUAD_TABLE_CACHE_MB", "much")
    with pytest.raises(ValueError, match="a whole number of megabytes, at least 0, got 'much'"):
        cache_module._bytes_from_environment()


def test_many_threads_and_sizes(cache: TableCache) -> None:
    cache.max_bytes = 2**14  # a few of the tables below: they come and go all the time
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        draw = random.Random(seed)
        start.wait()
        right = 0
        for _ in range(40):
            scan, size = draw.choice(SCANS), (draw.randint(1, 9), draw.randint(1, 9))
            right += equal(scan.tables(*size, CPU), scan, *size)
        return right

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(8))) == 8 * [40]
    assert cache.bytes == sum(entry.bytes for entry in cache._entries.values()) <= 2**14
    assert len(cache) > 1


def test_two_threads_that_build_the_same_get_one_table(cache: TableCache) -> None:
    class SlowScan(RowScan):
        both = threading.Barrier(2)

        def orders(self, *arguments) -> Tensor:
            self.both.wait(timeout=30)
            return super().orders(*arguments)

    scan = SlowScan()
    with ThreadPoolExecutor(2) as executor:
        first, second = executor.map(lambda _: scan.tables(3, 3, CPU), range(2))
    assert first is second
    assert cache.bytes == 9 * 2 * 4


def test_a_graph_is_captured_with_tables_that_exist_and_keeps_them(
    cache: TableCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    CrossScan().tables(5, 6, CPU)
    tables = CrossScan().tables(5, 7, CPU)
    monkeypatch.setattr(cache_module, "_capturing", lambda device: True)
    with pytest.raises(RuntimeError, match=r"grid of 7 x 5 .* run the model once on an image of"):
        CrossScan().tables(7, 5, CPU)
    assert CrossScan().tables(5, 7, CPU) is tables
    monkeypatch.undo()
    monkeypatch.setattr(library, "table_cache", cache)
    cache.clear()
    assert (len(cache), cache.bytes) == (1, 35 * TOKEN_OF_CROSS), "replays read this memory"
    assert CrossScan().tables(5, 7, CPU) is tables


def test_only_cuda_devices_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not cache_module._capturing(CPU)
    assert cache_module._capturing(torch.device("cuda", 0))


def test_the_allocator_hears_of_every_stream_that_reads(
    cache: TableCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(
        cache_module, "_use_on_current_stream", lambda tables, device: told.append(len(tables))
    )
    for _ in range(2):  # built by this stream, and then found by perhaps another
        CrossScan().tables(2, 2, CPU)
    assert told == [2, 2]


def test_streams_other_than_the_default_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Table:
        streams: tuple = ()

        def record_stream(self, stream: str) -> None:
            self.streams += (stream,)

    table, device = Table(), torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda where: f"default {where}")
    for stream in ("default cuda:1", "side"):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda where, name=stream: name)
        cache_module._use_on_current_stream([table], device)
        cache_module._use_on_current_stream([table], CPU)
    assert table.streams == ("side",)


def use(function: Callable[[Tensor], Tensor]) -> None:
    function(torch.randn(2, 8, 9, 3))


def in_inference_mode(function: Callable[[Tensor], Tensor]) -> None:
    with torch.inference_mode():
        use(function)


def under_grad(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 8, 9, 3)
    # An op may lack the rule; what it needs the tables for, it has looked up by then.
    with contextlib.suppress(RuntimeError):
        torch.func.grad(lambda scale: function(x * scale).sum())(torch.ones(()))


def in_a_trace(function: Callable[[Tensor], Tensor]) -> None:
    torch.jit.trace(function, torch.randn(2, 8, 9, 3), check_trace=False)


FIRST = [in_inference_mode, under_grad, in_a_trace]


@every_scan
@pytest.mark.parametrize("first", FIRST)
def test_what_came_first_leaves_tables_fit_for_training(
    scan: FixedScan | QuadScan, first: Callable, cache: TableCache
) -> None:
    first(lambda x: there_and_back(scan, x))
    assert len(cache) == 1
    tables = [table for entry in cache._entries.values() for table in entry.tables]
    assert all(type(table) is Tensor and not table.is_inference() for table in tables)
    assert equal(scan.tables(8, 9, CPU), scan, 8, 9)
    x = torch.randn(2, 8, 9, 3, requires_grad=True)
    there_and_back(scan, x).sum().backward()
    assert x.grad is not None


def test_default_devices_do_not_reach_the_tables() -> None:
    with torch.device("meta"):
        tables = QuadScan().tables(8, 9, CPU)
    assert all(table.device == CPU for table in tables[:6])


def test_modes_that_count_see_no_building(cache: TableCache) -> None:
    x = torch.randn(1, 8, 8, 4)
    with FlopCounterMode(display=False) as counter:
        QuadScan().tables(8, 8, x.device)
    assert counter.get_total_flops() == 0
    assert len(cache) == 1


def _tables_in_a_fork(queue: multiprocessing.SimpleQueue) -> None:
    queue.put(CrossScan().tables(2, 3, CPU).order[0, 1].tolist())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_while_another_thread_held_the_lock(cache: TableCache) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with cache._lock:
        child = context.Process(target=_tables_in_a_fork, args=(queue,))
        child.start()
    child.join(timeout=60)
    stuck = child.is_alive()
    if stuck:
        child.kill()
    assert not stuck
    assert queue.get() == [0, 3, 1, 4, 2, 5]


@every_scan
def test_scans_travel_without_tables(scan: FixedScan | QuadScan) -> None:
    before = pickle.dumps(scan)
    scan.tables(20, 20, CPU)
    assert pickle.dumps(scan) == before
    assert pickle.loads(before) == scan
