"""The scan of an installed `mamba_ssm`: its CUDA kernel, called without importing that package.

Only the compiled module ``selective_scan_cuda`` is used, because importing ``mamba_ssm`` itself
imports its language models and whatever they need. Recent releases leave that module out unless
asked. Nobody has run this backend on a GPU yet; tests run it with a stand-in for the kernel. It is
never chosen by ``auto``: its gradients of A, B, C, D and the bias are added up by atomics, so that
they differ from run to run.
"""

import functools
import importlib
import importlib.metadata
import re
from typing import Any

import torch
from torch import Tensor

from mmquad.ops.backend import initial_state_unsupported
from mmquad.ops.selective_scan.chunked import selective_scan_backward_chunked

__all__ = [
    "mamba_ssm_unavailable",
    "mamba_ssm_unsupported",
    "selective_scan_backward_mamba_ssm",
    "selective_scan_mamba_ssm",
]

MAX_STATES = 256
# The kernel computes element offsets in 32 bits and puts the channels on the grid's second axis.
MAX_ELEMENTS = 2**32
MAX_CHANNELS = 65535
# Tokens a block scans at once; longer sequences need the states in between for their gradient.
CHUNK = 2048
# Parameters of the compiled functions in every release from 1.0 on; forks have others.
PARAMETERS = {"fwd": 9, "bwd": 14}

INSTALL = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation --no-cache-dir mamba-ssm"


@functools.cache
def _import_problem() -> str | None:
    try:
        kernel = importlib.import_module("selective_scan_cuda")
    except ModuleNotFoundError:
        try:
            version = importlib.metadata.version("mamba-ssm")
        except importlib.metadata.PackageNotFoundError:
            return f"mamba_ssm is not installed: {INSTALL} (needs nvcc)"
        return (
            f"mamba_ssm {version} was installed without its Mamba-1 kernel (no module "
            f"selective_scan_cuda): {INSTALL} (needs nvcc)"
        )
    except (ImportError, OSError) as error:  # compiled for another torch or Python
        return (
            f"selective_scan_cuda does not load with torch {torch.__version__} "
            f"({str(error)[:160]}): {INSTALL} (needs nvcc)"
        )
    for name, expected in PARAMETERS.items():
        found = _parameter_count(getattr(kernel, name, None))
        if found not in (expected, None):
            return (
                f"selective_scan_cuda.{name} takes {found} arguments, expected {expected}: it is "
                f"not that of a mamba_ssm release; {INSTALL} (needs nvcc)"
            )
    return None


def _parameter_count(function: Any) -> int | None:
    """Read off the signature that pybind11 writes into the docstring; None if it wrote none."""
    if function is None:
        return 0
    signature = re.search(r"\((.*?)\) ->", function.__doc__ or "", re.DOTALL)
    return None if signature is None else len(re.findall(r"\barg\d+:", signature[1]))


def mamba_ssm_unavailable() -> list[str]:
    """Why the kernel cannot run on this machine."""
    reasons = [] if torch.cuda.is_available() else ["needs a CUDA GPU, torch sees none"]
    problem = _import_problem()
    return reasons if problem is None else [problem, *reasons]


# As in mmquad.ops.backend: torch.compile asks once and does not trace the import.
mamba_ssm_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def mamba_ssm_unsupported(**inputs: Tensor | None) -> list[str]:
    """Why the kernel cannot run these inputs of :func:`mmquad.ops.selective_scan`."""
    u, A = inputs["u"], inputs["A"]
    assert u is not None
    assert A is not None
    reasons = initial_state_unsupported(**inputs)
    if u.device.type != "cuda":
        reasons.append(f"runs on cuda, u is on {u.device}")
    if u.dtype == torch.float64:
        reasons.append("computes in float32, u is float64")
    B, C = inputs.get("B"), inputs.get("C")
    if B is not None and C is not None and B.shape[1] != C.shape[1]:
        reasons.append(f"B and C must have as many groups, got {B.shape[1]} and {C.shape[1]}")
    if A.shape[1] > MAX_STATES:
        reasons.append(f"N must be at most {MAX_STATES}, got {A.shape[1]}")
    if u.shape[1] > MAX_CHANNELS:
        reasons.append(f"D must be at most {MAX_CHANNELS}, got {u.shape[1]}")
    if u.numel() >= MAX_ELEMENTS or u.shape[0] * u.shape[2] * A.shape[1] >= MAX_ELEMENTS:
        reasons.append(f"u and B must have fewer than 2**32 elements, u is {tuple(u.shape)}")
    return reasons


def selective_scan_mamba_ssm(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~.reference.selective_scan_reference`, in float32.

    The kernel reads channels first: token-major inputs are copied.
    """
    kernel = importlib.import_module("selective_scan_cuda")
    inputs = _channels_first(u, delta, A, B, C, D, delta_bias)
    y, states = kernel.fwd(*inputs[:6], None, inputs[6], delta_softplus)[:2]
    return y, states[:, :, -1, 1::2].contiguous()  # pairs of decay and state


def selective_scan_backward_mamba_ssm(
    dy: Tensor,
    dlast: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, ...]:
    """Gradients as :func:`~.reference.selective_scan_backward_reference` returns them."""
    kernel = importlib.import_module("selective_scan_cuda")
    absent = u.new_zeros(u.shape[1])
    skip, bias = absent if D is None else D, absent if delta_bias is None else delta_bias
    inputs = _channels_first(u, delta, A, B, C, skip, bias)
    states = None
    if u.shape[2] > CHUNK:
        states = kernel.fwd(*inputs[:6], None, inputs[6], delta_softplus)[1]
    gradients = kernel.bwd(
        *inputs[:6], None, inputs[6], dy.contiguous(), states, None, None, delta_softplus, False
    )[:7]
    if dlast.any():
        # The kernel ignores the last state. The gradient is linear in (dy, dlast): add its part.
        rest = selective_scan_backward_chunked(
            torch.zeros_like(dy), dlast, u, delta, A, B, C, D, delta_bias, delta_softplus
        )
        gradients = [mine + other for mine, other in zip(gradients, rest, strict=True)]
    return tuple(gradients)


def _channels_first(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]
