"""Time one scan layer on every backend against the unfused pipeline; print Markdown tables.

On a CPU, layers of the published tiny and small models at 224 x 224; on a GPU, QuadMamba's at
224 x 224 (batch 128) and 800 x 1344 (batch 2), in three dtypes. docs/performance.md says how to
read the tables. The rows go to scan.json, a plot of time against length to scan.png.
"""

import argparse
import dataclasses
import json

import torch

from benchmarks.memory import fresh_process
from benchmarks.options import add_timing_options, place_of
from benchmarks.scan_layers import (
    CPU_CASES,
    LENGTH_CASES,
    benchmark_layer,
    gpu_cases,
    table,
)
from benchmarks.time_plot import plot_lengths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", help="default: all that run here, no reference")
    add_timing_options(parser, repetitions=10)
    parser.add_argument("--layers", default="", help="only those with this in their name")
    parser.add_argument("--batch", type=int, help="instead of the layers' own")
    arguments = parser.parse_args()
    place = place_of(arguments)
    cases = [c for c in (CPU_CASES if place.on_cpu else gpu_cases()) if arguments.layers in c.name]
    if not cases:
        parser.error(f"no layer has {arguments.layers!r} in its name")
    lengths = () if arguments.layers else LENGTH_CASES
    seconds = arguments.seconds / (len(cases) * len(place.dtypes) + len(lengths))

    print(place.description + "\n")
    settings = (arguments.device, arguments.repetitions, seconds)
    rows = []
    with fresh_process(place.device) as measure:
        for case in cases:
            if arguments.batch:
                case = dataclasses.replace(case, batch=arguments.batch)
            for dtype in place.dtypes:
                backends = arguments.backends
                rows += benchmark_layer(case, backends, getattr(torch, dtype), *settings, measure)
    print(table(rows))
    arguments.output.mkdir(parents=True, exist_ok=True)
    sweep = []
    for case in lengths:
        dtype = getattr(torch, place.dtypes[0])
        sweep += benchmark_layer(case, arguments.backends, dtype, *settings)
    if sweep:
        print("\n" + table(sweep))
        title = f"Quadtree layer, D = 96, K = 2, N = 1, {place.dtypes[0]}\n{place.description}"
        plot_lengths(sweep, arguments.output / "scan.png", title)
    report = {"where": place.description, "rows": rows, "lengths": sweep}
    (arguments.output / "scan.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
