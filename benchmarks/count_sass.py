"""Count what the CUDA kernels execute, without a GPU; compare with their budgets and the record.

    python -m benchmarks.count_sass
    python -m benchmarks.count_sass --write   # into benchmarks/gpu_code/figures.json

Needs nvcc, and a disassembler, which Triton brings along. Instructions are machine code (SASS) of a
kernel as compiled, executed by a lane per element of x and direction; how often the code runs is
counted by running its PTX on the host. Says nothing about time.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu_code.compilation import compile_kernels, find_nvcc, nvcc_version
from benchmarks.gpu_code.directional_scan import SOURCE, kernel_works
from benchmarks.gpu_code.disassembly import find_disassembler
from benchmarks.gpu_code.figures import (
    BUDGETS,
    changes,
    measure,
    over_budget,
    read_record,
    table,
    write_record,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", type=int, default=90, help="compute capability (default: 90)")
    parser.add_argument("--kernels", default="", help="only those with this in their name")
    parser.add_argument(
        "--write", action="store_true", help="into the record, instead of comparing"
    )
    arguments = parser.parse_args()
    if arguments.write and (arguments.kernels or arguments.target != 90):
        parser.error("the record is of all kernels, compiled for 90: --write goes alone")
    nvcc, disassembler = find_nvcc(), find_disassembler()
    if nvcc is None or disassembler is None:
        missing = "nvcc" if nvcc is None else "nvdisasm"
        parser.error(f"no {missing} in CUDA_HOME or on PATH (nvdisasm also comes with triton)")

    with tempfile.TemporaryDirectory() as folder:
        kernels = compile_kernels(nvcc, disassembler, SOURCE, Path(folder), arguments.target)
    figures = {}
    for work in kernel_works():
        if arguments.kernels in work.name:
            figures[work.name] = measure(work, work.find(kernels), arguments.target)
    if not figures:
        parser.error(f"no kernel has {arguments.kernels!r} in its name")
    compiled = f"nvcc {nvcc_version(nvcc)}, sm_{arguments.target}"
    print(f"Compiled by {compiled}; instructions per element and direction, counted, not timed.\n")
    print(table(figures.items()) + "\n")
    if arguments.write:
        write_record(figures, compiled)
        return
    if arguments.target != 90:
        print("Budgets and the record are of sm_90: not compared.")
        return
    record, recorded = read_record()
    complaints = 0
    for name, each in figures.items():
        over = over_budget(each, BUDGETS[name])
        changed = changes(record.get(name), each) if compiled == recorded else []
        complaints += bool(over or changed)
        print(f"{name}: {'; '.join(['OVER', *over]) if over else 'ok'}", *changed, sep="\n  ")
    if compiled != recorded:
        print(f"The record is of {recorded}: not compared.")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
