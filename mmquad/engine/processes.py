"""Starts a command again in several processes of one machine, as tools/dist_run.sh does."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch

__all__ = ["launch_command", "start_processes", "threads_for"]


def launch_command(name: str, given: Sequence[str], processes: int) -> list[str]:
    """The command that torch's launcher takes.

    Args:
        name: Of the command of this package.
        given: Words of its command line, the number of processes among them.
        processes: How many.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--local_addr=127.0.0.1", f"--nproc_per_node={processes}"]
    # The last word counts: none of the processes starts others, however `--gpus` was abbreviated.
    return [*launcher, "-m", "mmquad", name, *given, "--gpus", "1", "--launcher", "pytorch"]


def threads_for(processes: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables by which CPU processes share the cores; none on GPUs, or where they are set."""
    if torch.cuda.is_available() or environment.get("OMP_NUM_THREADS"):
        return {}
    threads = str(max((os.cpu_count() or 1) // processes, 1))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def start_processes(name: str, given: Sequence[str], processes: int) -> NoReturn:
    """Run the command in several processes, and end as they did; arguments as above."""
    environment = os.environ | threads_for(processes, os.environ)
    environment.pop("LOCAL_RANK", None)
    raise SystemExit(subprocess.call(launch_command(name, given, processes), env=environment))
