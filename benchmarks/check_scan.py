"""Compare every scan backend that runs here with float64, output and gradients; print the worst.

Lengths from 1 to 67200, 1 to 16 states, 1 to 4 directions, three dtypes, ragged channels, inputs
with gaps in memory, extreme steps and decay rates, unwritten memory filled with NaN. Ends with 1
if an error is above its limit. --lengths and --dtypes take a part of it.
"""

import argparse
import sys

import torch

from benchmarks.scan_accuracy import (
    LIMITS,
    SHAPES,
    check_point,
    extreme_points,
    grid,
    lasting_points,
    runnable,
    worst_errors,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backends", nargs="+", help="default: all that run here")
    parser.add_argument("--lengths", nargs="+", type=int, choices=list(SHAPES), default=SHAPES)
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float16", "bfloat16"])
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    dtypes = [getattr(torch, name) for name in arguments.dtypes or ()] or list(LIMITS)
    points = [*extreme_points(), *lasting_points(), *grid(arguments.lengths, dtypes)]

    results = []
    for i, point in enumerate(points):
        backends = runnable(point, device)
        if arguments.backends:
            backends = [name for name in backends if name in arguments.backends]
        results += check_point(point, backends, device)
        print(f"\r{i + 1}/{len(points)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{len(results)} runs, {name}, torch {torch.__version__}\n")
    print(worst_errors(results))
    above = [r for r in results for e in r.errors.values() if not e <= LIMITS[r.point.dtype]]
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
