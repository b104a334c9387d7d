"""The error of everything that is found wrong before a run starts."""

import os
from typing import NoReturn

__all__ = ["SetupError", "exit_with", "is_first_process"]


class SetupError(RuntimeError):
    """A run cannot start; the message says what is wrong and what to do."""


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first as launchers number them."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if os.environ.get(n)), "0") == "0"


def exit_with(error: SetupError) -> NoReturn:
    """End the process with the error's message; of many processes only the first says it."""
    raise SystemExit(f"\n{error}\n" if is_first_process() else 1) from None
