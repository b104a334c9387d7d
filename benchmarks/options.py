"""What the commands of the benchmarks have in common: their options, and where they run."""

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Place", "add_timing_options", "place_of"]


@dataclass(frozen=True)
class Place:
    """Where and in which precisions to measure.

    Args:
        device: The device.
        dtypes: Names of dtypes.
        description: Machine, threads and version of torch, for the report.
    """

    device: torch.device
    dtypes: list[str]
    description: str

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU."""
        return self.device.type == "cpu"


def add_timing_options(parser: argparse.ArgumentParser, repetitions: int) -> None:
    """Add the options of all benchmarks.

    Args:
        parser: Gets them.
        repetitions: How often a call is timed unless the command line says otherwise.
    """
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--repetitions", type=int, default=repetitions, help="at most, at least 3")
    parser.add_argument("--seconds", type=float, default=120, help="for timing, all in all, about")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/benchmark"))


def place_of(arguments: argparse.Namespace) -> Place:
    """Where the options say to run; sets the number of threads they ask for."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on_cpu = device.type == "cpu"
    dtypes = arguments.dtypes or (["float32"] if on_cpu else ["bfloat16", "float16", "float32"])
    name = platform.machine() if on_cpu else torch.cuda.get_device_name(device)
    threads = f"{torch.get_num_threads()} CPU threads"
    return Place(device, dtypes, f"{name}, {threads}, torch {torch.__version__}")
