"""Estimate how long the CUDA kernels take on an H200. Nothing is measured: no GPU is needed.

    python -m benchmarks.estimate_time

From the instructions that the kernels execute (benchmarks/gpu_code/figures.json), the bytes that
they move, and assumptions about the GPU that stand above the table. Good for comparing kernels with
each other, less so for how long anything takes.
"""

import argparse

from benchmarks.gpu_code.figures import read_record
from benchmarks.gpu_code.time_model import Assumptions, estimate_table
from benchmarks.scan_layers import gpu_cases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", default="", help="only those with this in their name")
    arguments = parser.parse_args()
    cases = [case for case in gpu_cases() if arguments.layers in case.name]
    if not cases:
        parser.error(f"no layer has {arguments.layers!r} in its name")
    record, _ = read_record()
    for batch in sorted({case.batch for case in cases}, reverse=True):
        print(estimate_table([c for c in cases if c.batch == batch], record, Assumptions()) + "\n")


if __name__ == "__main__":
    main()
