"""The op in C++, from the optional package built by ``pip install --no-build-isolation ./kernels``.

Nothing is imported before the first question whether it is available.
"""

import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from mmquad.ops.directional_scan.composed import Gradients
from mmquad.ops.directional_scan.layout import Order, mixed_order, sizes_of

__all__ = [
    "CHUNK",
    "native_backward",
    "native_forward",
    "native_unavailable",
    "native_unsupported",
]

# As in kernels/csrc/directional_scan/cpu/kernel.h.
CHUNK = 64
BLOCK = 32

# Below this many independent tasks the gradient of z is kept apart for groups of channel blocks,
# so that one sample can still occupy several cores. Fixed, so that results depend on shapes only.
TASKS = 8

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
    return None


def native_unavailable() -> list[str]:
    """Why the compiled kernels cannot run on this machine."""
    problem = _import_problem()
    return [] if problem is None else [problem]


# As in mmquad.ops.backend: torch.compile asks once and does not trace the import.
native_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def native_unsupported(**inputs: Any) -> list[str]:
    """Why they cannot run the given inputs."""
    x, order = inputs["x"], inputs["order"]
    reasons = []
    if x.device.type != "cpu":
        reasons.append(f"runs on cpu, x is on {x.device.type}")
    if order.shape[2] > x.shape[1]:
        reasons.append(f"reads no empty positions, order has P={order.shape[2]} > L={x.shape[1]}")
    if not inputs["merge"]:
        reasons.append("always merges directions")
    return reasons


def native_forward(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    states: Tensor,
) -> Tensor:
    """``y [B, L, D]``; fills ``states [B, K, chunks, N, D]`` unless it is empty."""
    y = torch.empty(x.shape, dtype=z.dtype)
    arguments = (x, z, dt_weight, dt_bias, A, D_skip, mixed_order(tables))
    torch.ops.mmquad_kernels.directional_scan(*(a.contiguous() for a in arguments), y, states)
    return y


def native_backward(
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    tables: Order,
    merge: bool,
    states: Tensor,
) -> Gradients:
    """Gradients as :func:`~mmquad.ops.directional_scan.composed.composed_backward`."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    batch, blocks = sizes.batch, -(-sizes.channels // BLOCK)
    groups = max(1, min(blocks, TASKS // max(batch, 1)))
    orders = window = torch.empty(0, dtype=torch.long)
    windows = 0
    if tables.window is not None and tables.weight is not None:
        orders, window, windows = tables.order, tables.window, tables.weight.shape[1]

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=z.dtype)

    inputs = (dy, x, z, dt_weight, dt_bias, A, D_skip, mixed_order(tables), states, orders, window)
    dx, dz = empty(*x.shape), empty(groups, *z.shape)
    dweight = empty(groups, batch, windows)
    parameters = [empty(batch, *p.shape) for p in (dt_weight, dt_bias, A, D_skip)]
    torch.ops.mmquad_kernels.directional_scan_backward(
        *(a.contiguous() for a in inputs), dx, dz, dweight, *parameters
    )
    ddt_weight, ddt_bias, dA, dD_skip = (p.sum(0) for p in parameters)
    return Gradients(
        x=dx,
        z=dz[0] if groups == 1 else dz.sum(0),
        dt_weight=ddt_weight,
        dt_bias=ddt_bias,
        A=dA,
        D_skip=dD_skip,
        weight=dweight.sum(0) if windows else None,
    )
