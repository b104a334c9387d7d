"""The errors that end a run with a message instead of a traceback."""

import os
from typing import NoReturn

__all__ = ["OneProcessError", "SetupError", "exit_with", "is_first_process"]


class SetupError(RuntimeError):
    """A run cannot start; the message says what is wrong and what to do."""


class OneProcessError(SetupError):
    """What one process of a run met, maybe alone: its data differ from those of the others."""


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first as launchers number them."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if os.environ.get(n)), "0") == "0"


def exit_with(error: SetupError) -> NoReturn:
    """End the process with the error's message; what all processes met only the first says."""
    speaks = is_first_process() or isinstance(error, OneProcessError)
    raise SystemExit(f"\n{error}\n" if speaks else 1) from None
