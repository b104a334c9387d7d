"""Whether Triton kernels can run here, and on what. Nothing is imported before the first question.

Triton compiles kernels for NVIDIA and AMD GPUs when they are first launched, without nvcc. On the
CPU its interpreter executes them operation by operation: with ``TRITON_INTERPRET=1`` set before
Triton is first imported, for tests.
"""

import functools
import importlib
import os
import shutil

import torch
from torch import Tensor

__all__ = ["interpreting", "triton_unavailable", "unsupported_tokens"]

# Tuples of tensors, which the kernels are built on, came with this version.
OLDEST_VERSION = (3, 3)
OLDEST_CAPABILITY = (7, 5)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def _import_problem() -> str | None:
    try:
        version = importlib.import_module("triton").__version__
    except ModuleNotFoundError:
        return "triton is not installed; torch for CUDA or ROCm on Linux brings it"
    except (ImportError, OSError) as error:
        return f"triton does not load ({str(error)[:160]}); reinstall torch"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        wanted = ".".join(map(str, OLDEST_VERSION))
        return f"needs triton {wanted} or later (torch 2.7), found {version}"
    return None


def triton_unavailable() -> list[str]:
    """Why Triton kernels cannot run on this machine."""
    problem = _import_problem()
    if problem is not None:
        return [problem]
    if interpreting():
        return []
    if not torch.cuda.is_available():
        return ["no CUDA or ROCm device (TRITON_INTERPRET=1 runs it on the CPU, for tests)"]
    if not ("CC" in os.environ or shutil.which("gcc") or shutil.which("clang")):
        return ["triton builds its launcher with a C compiler: install gcc or clang, or set CC"]
    return []


# As in mmquad.ops.backend: torch.compile asks once and does not trace imports and environment.
triton_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]
interpreting._dynamo_marked_constant = True  # type: ignore[attr-defined]


def unsupported_tokens(name: str, tokens: Tensor) -> list[str]:
    """Why kernels cannot run on the tensor called ``name``."""
    reasons = []
    device = tokens.device
    if device.type != "cuda" and not (device.type == "cpu" and interpreting()):
        reasons.append(f"runs on cuda, {name} is on {device.type}")
    elif _is_too_old(device):
        wanted = ".".join(map(str, OLDEST_CAPABILITY))
        reasons.append(f"needs compute capability {wanted} or later")
    if tokens.dtype not in DTYPES:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        reasons.append(f"computes in float32: takes {kinds}; {name} is {tokens.dtype}")
    return reasons


def _is_too_old(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY
