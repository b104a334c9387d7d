"""Time one scan layer on every backend against the unfused pipeline."""

import argparse
import json
import platform
from pathlib import Path

import torch

from mmquad.analysis.benchmark_scan import CASES, LayerCase, benchmark_layer, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", help="default: all that run here, no reference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--batch", type=int, help="instead of the cases' own")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    for case in CASES:
        if arguments.batch:
            case = LayerCase(**{**vars(case), "batch": arguments.batch})
        dtype = getattr(torch, arguments.dtype)
        rows += benchmark_layer(
            case, arguments.backends, dtype, arguments.device, arguments.repetitions
        )
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
