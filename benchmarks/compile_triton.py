"""Compile every Triton kernel of this package for a GPU that need not be there.

    python -m benchmarks.compile_triton sm_90 sm_80 gfx942

Prints registers, spills and shared memory of every variant that a program can meet.
"""

import argparse

import torch

from benchmarks.triton_variants import (
    compile_directional_scan,
    compile_selective_scan,
    compiling_for,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=["sm_90"], help="sm_<number> or gfx<name>")
    arguments = parser.parse_args()
    for target in arguments.targets:
        with compiling_for(target) as variants:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                for windows in (False, True):
                    compile_directional_scan(dtype, windows=windows)
            for softplus in (True, False):
                compile_selective_scan(softplus=softplus)
        print(f"{target}: {len(variants)} variants")
        for variant in sorted(variants.values()):
            print(f"  {variant}")


if __name__ == "__main__":
    main()
