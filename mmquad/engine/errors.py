"""The error of everything that is found wrong before a run starts."""

import os
from typing import NoReturn

__all__ = ["SetupError", "exit_with"]


class SetupError(RuntimeError):
    """A run cannot start; the message says what is wrong and what to do."""


def exit_with(error: SetupError) -> NoReturn:
    """End the process with the error's message; of many processes only the first says it."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    raise SystemExit(f"\n{error}\n" if rank == "0" else 1) from None
