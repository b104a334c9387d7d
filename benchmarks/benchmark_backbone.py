"""Time whole backbones against the same ones with unfused scans; print Markdown tables.

On a CPU, the smaller models at 224 x 224; on a GPU, QuadMamba at 224 x 224 (batch 128) and
800 x 1344 (batch 2), in three dtypes. Last, what the time of the first one is spent on.
docs/performance.md says how to read the tables. The rows go to backbone.json.
"""

import argparse
import json
import platform
from pathlib import Path

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
from benchmarks.scan_layers import runnable_backends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", help="default: the best that runs here")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--repetitions", type=int, default=5, help="at most, at least 3")
    parser.add_argument("--seconds", type=float, default=120, help="for timing, all in all, about")
    parser.add_argument("--models", default="", help="only those with this in their name")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/benchmark"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on_cpu = device.type == "cpu"
    dtypes = arguments.dtypes or (["float32"] if on_cpu else ["bfloat16", "float16", "float32"])
    backends = arguments.backends or runnable_backends(arguments.device)[:1]
    cases = [
        case
        for case in (CPU_CASES if on_cpu else gpu_cases())
        if arguments.models in f"{case.family}-{case.arch}"
    ]
    if not cases:
        parser.error(f"no model has {arguments.models!r} in its name")
    seconds = arguments.seconds / (len(cases) * len(dtypes))

    name = platform.machine() if on_cpu else torch.cuda.get_device_name(device)
    where = f"{name}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    print(where + "\n")
    settings = (arguments.device, arguments.repetitions, seconds)
    rows = []
    with fresh_process(device) as measure:
        for case in cases:
            for dtype in dtypes:
                rows += benchmark_backbone(
                    case, backends, getattr(torch, dtype), *settings, measure
                )
    print(table(rows))
    first, dtype = cases[0], getattr(torch, dtypes[0])
    failed = {row["implementation"] for row in rows if "error" in row}
    parts = {
        f"{backend}, {mode}": breakdown(first, backend, mode, dtype, arguments.device)
        for mode in MODES
        for backend in backends
        if backend not in failed
    }
    print(f"\n{first.family}-{first.arch}, batch {first.batch}, {dtypes[0]}, one call:\n")
    print(breakdown_table(parts))
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = {"where": where, "rows": rows, "parts": parts}
    (arguments.output / "backbone.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
