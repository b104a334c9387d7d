"""Time whole backbones against the same ones with unfused scans; print Markdown tables.

On a CPU, the smaller models at 224 x 224; on a GPU, QuadMamba at 224 x 224 (batch 128) and
800 x 1344 (batch 2), in three dtypes. Last, what the time of the first one is spent on.
docs/performance.md says how to read the tables. The rows go to backbone.json.
"""

import argparse
import json

import torch

from benchmarks.backbones import (
    CPU_CASES,
    MODES,
    benchmark_backbone,
    breakdown,
    breakdown_table,
    gpu_cases,
    table,
)
from benchmarks.memory import fresh_process
from benchmarks.options import add_timing_options, place_of
from benchmarks.scan_layers import runnable_backends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", help="default: the best that runs here")
    add_timing_options(parser, repetitions=5)
    parser.add_argument("--models", default="", help="only those with this in their name")
    arguments = parser.parse_args()
    place = place_of(arguments)
    backends = arguments.backends or runnable_backends(arguments.device)[:1]
    cases = [
        case
        for case in (CPU_CASES if place.on_cpu else gpu_cases())
        if arguments.models in f"{case.family}-{case.arch}"
    ]
    if not cases:
        parser.error(f"no model has {arguments.models!r} in its name")
    seconds = arguments.seconds / (len(cases) * len(place.dtypes))

    print(place.description + "\n")
    settings = (arguments.device, arguments.repetitions, seconds)
    rows = []
    with fresh_process(place.device) as measure:
        for case in cases:
            for dtype in place.dtypes:
                rows += benchmark_backbone(
                    case, backends, getattr(torch, dtype), *settings, measure
                )
    print(table(rows))
    first, dtype = cases[0], getattr(torch, place.dtypes[0])
    failed = {row["implementation"] for row in rows if "error" in row}
    parts = {
        f"{backend}, {mode}": breakdown(first, backend, mode, dtype, arguments.device)
        for mode in MODES
        for backend in backends
        if backend not in failed
    }
    print(f"\n{first.family}-{first.arch}, batch {first.batch}, {place.dtypes[0]}, one call:\n")
    print(breakdown_table(parts))
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = {"where": place.description, "rows": rows, "parts": parts}
    (arguments.output / "backbone.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
