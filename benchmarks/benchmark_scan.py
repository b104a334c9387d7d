"""Time one scan layer on every backend against the unfused pipeline; print Markdown tables.

On a CPU, layers of the published tiny and small models at 224 x 224; on a GPU, QuadMamba's at
224 x 224 (batch 128) and 800 x 1344 (batch 2), in three dtypes. docs/performance.md says how to
read the tables. The rows go to scan.json, a plot of time against length to scan.png.
"""

import argparse
import dataclasses
import json
import platform
from pathlib import Path

import torch

from benchmarks.memory import fresh_process
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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--repetitions", type=int, default=10, help="at most, at least 3")
    parser.add_argument("--seconds", type=float, default=120, help="for timing, all in all, about")
    parser.add_argument("--layers", default="", help="only those with this in their name")
    parser.add_argument("--batch", type=int, help="instead of the layers' own")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/benchmark"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on_cpu = device.type == "cpu"
    dtypes = arguments.dtypes or (["float32"] if on_cpu else ["bfloat16", "float16", "float32"])
    cases = [c for c in (CPU_CASES if on_cpu else gpu_cases()) if arguments.layers in c.name]
    if not cases:
        parser.error(f"no layer has {arguments.layers!r} in its name")
    lengths = () if arguments.layers else LENGTH_CASES
    seconds = arguments.seconds / (len(cases) * len(dtypes) + len(lengths))

    name = platform.machine() if on_cpu else torch.cuda.get_device_name(device)
    where = f"{name}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    print(where + "\n")
    settings = (arguments.device, arguments.repetitions, seconds)
    rows = []
    with fresh_process(device) as measure:
        for case in cases:
            if arguments.batch:
                case = dataclasses.replace(case, batch=arguments.batch)
            for dtype in dtypes:
                backends = arguments.backends
                rows += benchmark_layer(case, backends, getattr(torch, dtype), *settings, measure)
    print(table(rows))
    arguments.output.mkdir(parents=True, exist_ok=True)
    sweep = []
    for case in lengths:
        sweep += benchmark_layer(case, arguments.backends, getattr(torch, dtypes[0]), *settings)
    if sweep:
        print("\n" + table(sweep))
        title = f"Quadtree layer, D = 96, K = 2, N = 1, {dtypes[0]}\n{where}"
        plot_lengths(sweep, arguments.output / "scan.png", title)
    report = {"where": where, "rows": rows, "lengths": sweep}
    (arguments.output / "scan.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
