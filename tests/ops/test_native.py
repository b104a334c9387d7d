"""The optional package seen from Python: what is said without it, and how work is dealt."""

import logging

import pytest
import torch

from mmquad.ops import directional_scan, native, selective_scan
from mmquad.scans import CrossScan


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "_import_problem", lambda: "it is not installed: pip install it")
    native.suggest_native.cache_clear()
    yield
    native.suggest_native.cache_clear()


def scan() -> None:
    u = torch.randn(1, 4, 5)
    selective_scan(u, u, -torch.ones(4, 1), u[:, :1], u[:, :1], backend="chunked")


def directional() -> None:
    tables = CrossScan().tables(1, 5, torch.device("cpu"))
    x, z = torch.randn(1, 5, 2), torch.randn(1, 5, 4 * 3)
    ones = torch.ones(4, 2)
    parameters = (ones[..., None], ones, -ones[..., None], ones)
    directional_scan(x, z, *parameters, *tables, backend="chunked")


@pytest.mark.usefixtures("not_installed")
@pytest.mark.parametrize("function", [scan, directional])
def test_says_once_how_to_be_faster(function, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mmquad"):
        function()
        function()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "it is not installed: pip install it" in caplog.text


def test_says_nothing_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "_import_problem", lambda: None)
    native.suggest_native.cache_clear()
    with caplog.at_level(logging.INFO, logger="mmquad"):
        scan()
    native.suggest_native.cache_clear()
    assert not caplog.records


@pytest.mark.skipif(bool(native.native_unavailable()), reason="mmquad_kernels is missing")
def test_kernels_of_another_version_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed before an update of mmquad, they would fail at the first scan."""
    monkeypatch.setitem(native.ARGUMENTS, "selective_scan", 10)
    native._import_problem.cache_clear()
    try:
        (problem,) = native.native_unavailable()
        scan()
        u = torch.randn(1, 4, 5)
        assert selective_scan(u, u, -torch.ones(4, 1), u[:, :1], u[:, :1]).shape == u.shape
    finally:
        monkeypatch.undo()
        native._import_problem.cache_clear()
    assert problem.startswith(
        "mmquad_kernels is of another version than mmquad (selective_scan takes 11 arguments, "
        "expected 10); rebuild it: pip install"
    )
    assert native.native_unavailable() == []


@pytest.mark.parametrize(
    ("threads", "units", "channels", "slots"),
    [
        (1, 1, 1536, 1),  # nothing to deal
        (2, 1, 192, 2),
        (4, 1, 192, 4),
        (64, 1, 192, 4),  # six blocks of channels: four groups
        (64, 1, 1536, 8),
        (4, 8, 192, 1),  # the samples are enough
        (4, 3, 192, 4),
        (4, 1, 32, 1),  # a single block
        (4, 0, 192, 1),
    ],
)
def test_slots(
    threads: int, units: int, channels: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert native.slots_for(units, channels) == slots


def test_pairs_are_added_first() -> None:
    big = torch.tensor(2.0**24)
    one = torch.tensor(1.0)
    # From left to right both ones would be lost in float32; here the second meets -big first.
    parts = torch.stack([big, one, one, -big])
    assert native.add_pairwise(parts) == 1
    assert native.add_pairwise(parts[:1]) == big
