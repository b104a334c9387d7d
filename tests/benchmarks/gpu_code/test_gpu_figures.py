"""The gate: what the CUDA kernels execute, against their budgets and the record."""

from pathlib import Path

import pytest

from benchmarks.gpu_code.compilation import compile_kernels, find_nvcc, nvcc_version
from benchmarks.gpu_code.directional_scan import SOURCE, kernel_works
from benchmarks.gpu_code.disassembly import find_disassembler
from benchmarks.gpu_code.figures import (
    BUDGETS,
    Budget,
    Figures,
    changes,
    measure,
    over_budget,
    read_record,
    resident_blocks,
    table,
    write_record,
)

EXAMPLE = Figures("element", 64, 0, 1000, 128, 8, 100.0, {"float": 60.0, "integer": 40.0}, 1.0)


@pytest.mark.slow
def test_kernels_are_within_budget_and_as_recorded(tmp_path: Path) -> None:
    nvcc, disassembler = find_nvcc(), find_disassembler()
    if nvcc is None or disassembler is None:
        pytest.skip("no nvcc or no nvdisasm")
    kernels = compile_kernels(nvcc, disassembler, SOURCE, tmp_path)
    works = kernel_works()
    assert {work.find(kernels).ptx.name for work in works} == set(kernels)
    record, recorded = read_record()
    same_compiler = recorded == f"nvcc {nvcc_version(nvcc)}, sm_90"
    complaints = []
    for work in works:
        figures = measure(work, work.find(kernels), 90)
        # Machine code that follows its PTX, whose visits are counted.
        assert figures.agreement > 0.95, work.name
        complaints += [f"{work.name}: {over}" for over in over_budget(figures, BUDGETS[work.name])]
        if same_compiler:
            complaints += [f"{work.name}: {each}" for each in changes(record[work.name], figures)]
    assert complaints == [], "python -m benchmarks.count_sass --write, if that is meant"


def test_every_kernel_has_a_budget_and_a_record_within_it() -> None:
    names = [work.name for work in kernel_works()]
    record, _ = read_record()
    assert names == list(record)
    assert set(names) == set(BUDGETS)
    for name, figures in record.items():
        assert over_budget(figures, BUDGETS[name]) == []
        assert sum(figures.instructions.values()) == pytest.approx(figures.total, abs=0.1)


def test_more_than_a_budget_is_named() -> None:
    assert over_budget(EXAMPLE, Budget(100, 0)) == []
    worse = EXAMPLE._replace(spilled=8, instructions={"special function": 3.0})
    assert over_budget(worse, Budget(99, 2.5)) == [
        "100.0 instructions > 99",
        "3.0 special functions > 2.5",
        "8 bytes spilled > 0",
    ]


@pytest.mark.parametrize(
    ("changed", "complaints"),
    [
        ({"total": 102.9}, []),
        ({"total": 103.1}, ["total: 100.0 -> 103.1"]),
        ({"total": 96.9}, ["total: 100.0 -> 96.9"]),
        ({"registers": 72}, ["registers: 64 -> 72"]),
        ({"spilled": 4}, ["spilled: 0 -> 4"]),
        ({"instructions": {"float": 61.0, "integer": 39.0}}, []),
        (
            {"instructions": {"float": 60.0, "move": 40.0}},
            ["integer: 40.0 -> 0.0", "move: 0.0 -> 40.0"],
        ),
    ],
)
def test_changes_of_three_percent_are_named(changed: dict, complaints: list[str]) -> None:
    assert sorted(changes(EXAMPLE, EXAMPLE._replace(**changed))) == complaints


def test_a_kernel_that_is_not_in_the_record_is_named() -> None:
    assert changes(None, EXAMPLE) == ["it is not in the record"]


def test_the_record_is_read_as_written(tmp_path: Path) -> None:
    write_record({"a": EXAMPLE}, "nvcc 1.2, sm_90", tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == ({"a": EXAMPLE}, "nvcc 1.2, sm_90")


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "blocks"),
    [
        (32, 0, 32, 32),  # no more than 32 blocks
        (16, 0, 256, 8),  # no more than 64 warps
        (128, 49 << 10, 256, 2),  # registers: 16 warps of 4096
        (168, 70 << 10, 128, 3),  # registers: 12 warps of 5376
        (168, 80 << 10, 128, 2),  # shared memory
        (16, 38400, 64, 5),  # a block takes 1 KiB more
        (73, 0, 32, 24),  # registers go in eights, warps in fours
    ],
)
def test_resident_blocks(registers: int, shared: int, threads: int, blocks: int) -> None:
    assert resident_blocks(90, registers, shared, threads) == blocks


def test_an_unknown_multiprocessor_is_refused() -> None:
    with pytest.raises(ValueError, match="not for 75"):
        resident_blocks(75, 32, 0, 32)


def test_the_table_has_a_column_for_every_class() -> None:
    other = EXAMPLE._replace(instructions={"barrier": 1.0})
    rows = table([("a", EXAMPLE), ("b", other)]).splitlines()
    assert rows[0].startswith("| kernel | all | float | integer | barrier | registers |")
    assert rows[3].startswith("| b | 100.0 | 0.0 | 0.0 | 1.0 | 64 |")
