"""The op in CUDA C++, from the optional package in ``kernels/`` built where ``nvcc`` is.

Nothing is imported before the first question whether it is available. Prepares what the kernels
take (kernels/csrc/directional_scan/cuda/problem.h): parameters as rows over the channels, scratch,
and how positions are divided; and adds up what they leave apart, in a fixed order.
"""

import functools
import importlib
from importlib.resources import files
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.backend import initial_state_unsupported
from mmquad.ops.directional_scan.composed import Gradients
from mmquad.ops.directional_scan.layout import FINE, Order, Sizes, mixed_order, sizes_of
from mmquad.ops.native import native_unavailable

__all__ = [
    "CHUNK",
    "Plan",
    "cuda_backward",
    "cuda_forward",
    "cuda_unavailable",
    "cuda_unsupported",
    "plan_of",
]

# As in kernels/csrc/directional_scan/cuda/problem.h.
CHUNK = 64
WARP = 32
FEW_STATES = 4
MOST_STATES = 16
MOST_COLUMNS = 256

# Positions are cut into more segments until about so many threads have work: one per sample,
# channel and segment. Fixed, so that results depend on shapes only, and not on the device.
THREADS = 1 << 17
MOST_SEGMENTS = 256

OLDEST_CAPABILITY = (8, 0)
INSTALL = "pip install --no-build-isolation ./kernels (needs nvcc)"


@functools.cache
def _import_problem() -> str | None:
    try:
        importlib.import_module("mmquad_kernels._cuda")
    except ModuleNotFoundError:
        note = files("mmquad_kernels") / "without_cuda.txt"
        reason = f" ({note.read_text().strip()})" if note.is_file() else ""
        return f"mmquad_kernels was built without CUDA{reason}: {INSTALL}"
    except (ImportError, OSError) as error:  # compiled for another torch or CUDA
        return f"mmquad_kernels._cuda does not load ({str(error)[:160]}); rebuild it: {INSTALL}"
    return None


def cuda_unavailable() -> list[str]:
    """Why the compiled kernels cannot run on this machine."""
    if torch.version.cuda is None:
        return [f"torch {torch.__version__} was built without CUDA"]
    if not torch.cuda.is_available():
        return ["torch sees no CUDA device"]
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_CAPABILITY:
        return ["needs compute capability 8.0 or later, this GPU has {}.{}".format(*capability)]
    problems = native_unavailable()
    if not problems and (problem := _import_problem()) is not None:
        return [problem]
    return problems


# As in mmquad.ops.backend: torch.compile asks once and does not trace the import.
cuda_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def cuda_unsupported(**inputs: Any) -> list[str]:
    """Why they cannot run the given inputs."""
    x, states = inputs["x"], inputs["A"].shape[2]
    columns = inputs["dt_weight"].shape[2] + 2 * states
    reasons = initial_state_unsupported(**inputs)
    if x.device.type != "cuda":
        reasons.append(f"runs on cuda, x is on {x.device.type}")
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        reasons.append(f"takes float32, float16 and bfloat16, x is {x.dtype}")
    if states > MOST_STATES:
        reasons.append(f"takes up to {MOST_STATES} states, got N={states}")
    if columns > MOST_COLUMNS:
        reasons.append(f"takes R + 2 N up to {MOST_COLUMNS}, got {columns}")
    return reasons


class Plan(NamedTuple):
    """How the work is divided: ``width`` channels to a block, ``span`` chunks to a segment."""

    width: int
    span: int
    slabs: int
    segments: int


def plan_of(sizes: Sizes) -> Plan:
    """Of inputs of these sizes."""
    most = 4 * WARP if sizes.states <= FEW_STATES else 2 * WARP
    widths = range(most, 0, -WARP)
    width = min(widths, key=lambda width: -(-sizes.channels // width) * width)
    chunks = -(-sizes.positions // CHUNK)
    wanted = -(-THREADS // max(sizes.batch * sizes.channels, 1))
    span = -(-chunks // min(wanted, MOST_SEGMENTS, chunks))
    return Plan(width, span, -(-sizes.channels // width), -(-chunks // span))


def _scratch(like: Tensor, sizes: Sizes, plan: Plan) -> tuple[Tensor, Tensor]:
    """What enters or leaves every segment, and how much it decays over it."""
    shape = (sizes.batch, sizes.directions, plan.segments)
    carry = like.new_empty(*shape, sizes.states, sizes.channels)
    return carry, like.new_empty(*shape, sizes.channels)


def _rows(dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor) -> Tensor:
    """All parameters as ``[K, 2 + N + R, D]``."""
    single = torch.stack([dt_bias, D_skip], dim=1)
    return torch.cat([single, A.transpose(1, 2), dt_weight.transpose(1, 2)], dim=1)


def _ops() -> Any:
    return torch.ops.mmquad_kernels


def cuda_forward(
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
    """``y``; fills ``states [B, K, chunks, N, D]`` unless it is empty."""
    sizes = sizes_of(x, dt_weight, A, tables.order)
    plan = plan_of(sizes)
    batch, length, channels = x.shape
    y = z.new_empty((batch, length, channels) if merge else (batch, sizes.directions, *x.shape[1:]))
    _ops().directional_scan_cuda(
        x,
        z.contiguous(),
        _rows(dt_weight, dt_bias, A, D_skip),
        mixed_order(tables).contiguous(),
        sizes.states,
        plan.width,
        plan.span,
        merge,
        y,
        states,
        *_scratch(z, sizes, plan),
    )
    return y


def cuda_backward(
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
    plan = plan_of(sizes)
    parameters = _rows(dt_weight, dt_bias, A, D_skip)
    order = mixed_order(tables).contiguous()
    rival = order.new_empty(0)
    scores = z.new_empty(0)
    if tables.weight is not None:
        opposite = (tables.weight <= 0.5).to(tables.weight.dtype)
        rival = mixed_order(tables._replace(weight=opposite)).contiguous()
        scores = z.new_empty(plan.slabs, *order.shape)
    dx = z.new_empty(x.shape)
    dz = z.new_empty(plan.slabs, *z.shape)
    per_segment = z.new_empty(
        sizes.batch, sizes.directions, plan.segments, parameters.shape[1], sizes.channels
    )
    _ops().directional_scan_cuda_backward(
        dy,
        x,
        z.contiguous(),
        parameters,
        order,
        rival,
        states,
        sizes.states,
        plan.width,
        plan.span,
        merge,
        dx,
        dz,
        per_segment,
        scores,
        *_scratch(z, sizes, plan),
    )
    dz = dz[0] if plan.slabs == 1 else dz.sum(0)
    dparameters = per_segment.sum((0, 2)).transpose(1, 2)  # [K, D, 2 + N + R]
    dbias, dskip, dA, ddt_weight = dparameters.split([1, 1, sizes.states, sizes.ranks], dim=2)
    dweight = None
    if tables.weight is not None:
        dweight = _window_gradient(scores.sum(0), z, dz, order, rival, tables)
    return Gradients(
        x=dx,
        z=dz,
        dt_weight=ddt_weight.clone(),
        dt_bias=dbias[..., 0].clone(),
        A=dA.clone(),
        D_skip=dskip[..., 0].clone(),
        weight=dweight,
    )


def _window_gradient(
    scores: Tensor, z: Tensor, dz: Tensor, order: Tensor, rival: Tensor, tables: Order
) -> Tensor:
    """What reading finely would add, less what reading coarsely would, per window: ``[B, Q]``.

    ``scores [B, K, L]`` has, for every position, what the token that was read contributes less what
    its rival would, without z's share. That is added here: z is narrow.
    """
    assert tables.window is not None
    assert tables.weight is not None
    batch, directions, positions = order.shape
    start = torch.arange(batch, device=z.device)[:, None, None] * positions
    own = torch.arange(directions, device=z.device)[:, None]

    def rows(columns: Tensor, tokens: Tensor) -> Tensor:  # [B, L, K C] -> [B, K, L, C]
        table = columns.reshape(batch * positions * directions, -1)
        return F.embedding((tokens + start) * directions + own, table)

    scores = scores + (rows(dz, order) * (rows(z, order) - rows(z, rival))).sum(-1)
    window = tables.window[tables.order[FINE]]  # [K, L], alike for both orders
    read_finely = (tables.weight > 0.5)[:, window]
    signed = torch.where(read_finely, scores, -scores)
    # Sums of large terms that cancel: in float64.
    member = F.one_hot(window.flatten().long(), tables.weight.shape[1]).double()
    return (signed.flatten(1).double() @ member).to(scores.dtype)
