"""What ops share of the optional package in ``kernels/``: whether it is there, how work is dealt.

Built by ``pip install --no-build-isolation ./kernels``. Nothing is imported before the first
question whether it is available.
"""

import functools
import importlib
import logging

import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "CHUNK",
    "MAX_GROUPS",
    "add_pairwise",
    "blocks_of",
    "native_unavailable",
    "slots_for",
    "suggest_native",
]

# As in kernels/csrc/scan/cpu/kernel.h.
BLOCK = 32
CHUNK = 64
MAX_GROUPS = 8

# Arguments of the compiled ops. The package is installed apart from this one, and may be older.
ARGUMENTS = {
    "directional_scan": 10,
    "directional_scan_backward": 19,
    "selective_scan": 11,
    "selective_scan_backward": 17,
}

INSTALL = "pip install --no-build-isolation ./kernels (needs a C++ compiler)"


@functools.cache
def _import_problem() -> str | None:
    try:
        importlib.import_module("mmquad_kernels")
    except ModuleNotFoundError as error:
        if error.name == "mmquad_kernels":
            return f"mmquad_kernels is not installed: {INSTALL}"
        return f"mmquad_kernels is broken ({error}): {INSTALL}"
    except (ImportError, OSError) as error:  # compiled for another torch or Python
        return f"mmquad_kernels does not load ({str(error)[:160]}); rebuild it: {INSTALL}"
    for name, expected in ARGUMENTS.items():
        op = getattr(torch.ops.mmquad_kernels, name, None)
        found = 0 if op is None else len(op.default._schema.arguments)
        if found != expected:
            return (
                f"mmquad_kernels is of another version than mmquad ({name} takes {found} "
                f"arguments, expected {expected}); rebuild it: {INSTALL}"
            )
    return None


def native_unavailable() -> list[str]:
    """Why the compiled kernels cannot run on this machine."""
    problem = _import_problem()
    return [] if problem is None else [problem]


# As in mmquad.ops.backend: torch.compile asks once and does not trace the import.
native_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def suggest_native() -> None:
    """Say, once per process, how scans on the CPU would be faster, if they would."""
    for problem in native_unavailable():
        logging.getLogger(__name__).info(
            "Scans on the CPU run in PyTorch; compiled kernels are several times as fast. %s",
            problem,
        )


def blocks_of(channels: int) -> int:
    """Blocks of channels, each of which one task of the forward computes."""
    return -(-channels // BLOCK)


def slots_for(units: int, channels: int) -> int:
    """Parts into which the backward deals the channels of each of ``units`` independent scans.

    As many as PyTorch's threads need to be busy, for each costs a gradient of z of its own. The
    kernels add channels up in the same pairs however many there are, so that results do not depend
    on threads.
    """
    threads = torch.get_num_threads()
    limit = min(blocks_of(channels), MAX_GROUPS)
    slots = 1
    while 2 * slots <= limit and units * slots % threads != 0 and units * slots < 4 * threads:
        slots *= 2
    return slots


def add_pairwise(parts: Tensor) -> Tensor:
    """Sum over the first axis, a power of two, in the kernels' order."""
    while parts.shape[0] > 1:
        parts = parts[0::2] + parts[1::2]
    return parts[0]
