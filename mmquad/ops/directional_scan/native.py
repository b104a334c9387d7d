"""The op in C++, on the CPU: see :mod:`mmquad.ops.native`."""

from typing import Any

import torch
from torch import Tensor

from mmquad.ops.directional_scan.composed import Gradients
from mmquad.ops.directional_scan.layout import Order, Sizes, mixed_order, sizes_of
from mmquad.ops.native import MAX_GROUPS, add_pairwise, blocks_of, slots_for

__all__ = ["native_backward", "native_forward", "native_unsupported"]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def native_unsupported(**inputs: Any) -> list[str]:
    """Why the kernels cannot run the given inputs."""
    x = inputs["x"]
    reasons = []
    if x.device.type != "cpu":
        reasons.append(f"runs on cpu, x is on {x.device.type}")
    if x.dtype not in DTYPES:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        reasons.append(f"takes {kinds}; x is {x.dtype}")
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
    initial_state: Tensor | None = None,
) -> Tensor:
    """``y [B, L, D]`` or ``[B, K, L, D]``; fills ``states [B, K, chunks, N, D]`` unless empty."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    tasks = sizes.batch * blocks_of(sizes.channels)
    apart = not merge or _too_few(tasks, sizes)
    directions = (sizes.directions,) if apart else ()
    y = torch.empty((sizes.batch, *directions, sizes.length, sizes.channels), dtype=z.dtype)
    initial = torch.empty(0) if initial_state is None else initial_state.transpose(2, 3)
    arguments = (x, z, dt_weight, dt_bias, A, D_skip, mixed_order(tables), initial)
    torch.ops.mmquad_kernels.directional_scan(*(a.contiguous() for a in arguments), y, states)
    return _add_directions(y.unbind(1)) if merge and apart else y


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
    initial_state: Tensor | None = None,
) -> Gradients:
    """Gradients as :func:`~mmquad.ops.directional_scan.composed.composed_backward`."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    batch, directions = sizes.batch, sizes.directions
    slots = slots_for(batch, sizes.channels)
    apart = _too_few(batch * slots, sizes)
    if apart:
        slots = slots_for(batch * directions, sizes.channels)
    orders = window = torch.empty(0, dtype=torch.int32)
    windows = 0
    if tables.window is not None and tables.weight is not None:
        orders, window, windows = tables.order, tables.window, tables.weight.shape[1]

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=z.dtype)

    inputs = (dy, x, z, dt_weight, dt_bias, A, D_skip, mixed_order(tables), states, orders, window)
    dx, dz = empty(*((directions,) if apart else ()), *x.shape), empty(slots, *z.shape)
    dweight = empty(directions, _groups(sizes.channels), batch, windows)
    parameters = [empty(batch, *p.shape) for p in (dt_weight, dt_bias, A, D_skip)]
    # The scan itself is found again from the saved states, the first of which is the initial one.
    dinitial = empty(
        0 if initial_state is None else batch, directions, sizes.states, sizes.channels
    )
    torch.ops.mmquad_kernels.directional_scan_backward(
        *(a.contiguous() for a in inputs), dx, dz, dweight, *parameters, dinitial
    )
    ddt_weight, ddt_bias, dA, dD_skip = (p.sum(0) for p in parameters)
    return Gradients(
        x=_add_directions(dx.unbind(0)) if apart else dx,
        z=add_pairwise(dz),
        dt_weight=ddt_weight,
        dt_bias=ddt_bias,
        A=dA,
        D_skip=dD_skip,
        weight=dweight.sum((0, 1)) if windows else None,
        initial_state=None if initial_state is None else dinitial.transpose(2, 3),
    )


def _too_few(tasks: int, sizes: Sizes) -> bool:
    """Whether directions must run side by side, into memory of their own, to occupy all threads."""
    return sizes.directions > 1 and tasks < torch.get_num_threads()


def _add_directions(parts: tuple[Tensor, ...]) -> Tensor:
    """In the order in which the kernels add directions that share their rows."""
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def _groups(channels: int) -> int:
    groups = 1
    while 2 * groups <= min(blocks_of(channels), MAX_GROUPS):
        groups *= 2
    return groups
