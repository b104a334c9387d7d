"""The scans as loops of ONNX: one ``Scan`` operator per layer, whose body is a step for one token.

A loop over tokens is slow where every step starts a kernel or a Python function. A runtime for CPUs
takes some microseconds for a step, does no work twice, and the state stays in the cache: a whole
model then takes up to twice its time in eager mode, where log2(L) operators over whole sequences
(:mod:`mmquad.export.doubling`) took up to fifty times.
"""

from collections.abc import Callable, Sequence

import onnx.inliner
import torch
import torch.nn.functional as F
from onnx import FunctionProto, ModelProto, ValueInfoProto, helper
from torch import Tensor

from mmquad.ops.directional_scan.layout import Order, mixed_inverse, mixed_order, sizes_of
from mmquad.ops.directional_scan.reordering import (
    gather_columns,
    gather_shared,
    merge_apart,
    merge_shared,
)
from mmquad.ops.selective_scan.reference import step_size

__all__ = ["inline_recurrences", "loop_decompositions"]

DOMAIN = "mmquad"


def loop_decompositions() -> dict[torch._ops.OpOverload, Callable]:
    """Of the scans, for ``run_decompositions``: nodes ``mmquad::Recurrence`` and what is around.

    Exporters take such nodes for operators of ONNX; :func:`inline_recurrences` says what they mean.
    """
    ops = torch.ops.mmquad
    return {
        ops.directional_scan.default: _directional_scan,
        ops.selective_scan.default: _selective_scan,
    }


def _recurrence(
    delta: Tensor, drive: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """``h_t = exp(delta_t A) h_{t-1} + drive_t B_t`` and ``y_t = C_t h_t``: y, and the last h.

    ``delta, drive [P, B, K, D]``, ``A [K, N, D]``, ``B, C [P, B, K, N]``, ``state [B, K, N, D]``.
    """
    y, last = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::Recurrence",
        (delta[..., None, :], drive[..., None, :], A, B[..., None], C[..., None, :], state),
        dtypes=(delta.dtype, delta.dtype),
        shapes=(delta[..., None, :].shape, state.shape),
        version=1,
    )
    return y.squeeze(-2), last


def _directional_scan(
    x: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None,
    weight: Tensor | None,
    merge: bool,
    backend: str,
    save_states: bool,
    initial_state: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    sizes = sizes_of(x, dt_weight, A, order)
    tables = Order(order, inverse, window, weight)
    orders = mixed_order(tables)
    xs, zs = gather_shared(x.to(wide), orders), gather_columns(z.to(wide), orders)
    rank, B, C = zs.split([sizes.ranks, sizes.states, sizes.states], dim=-1)
    # One product for all directions, which leaves the result in the order of the loop.
    projection = torch.block_diag(*dt_weight.to(wide).transpose(1, 2))
    delta = (rank.flatten(2) @ projection).unflatten(2, dt_bias.shape)
    delta = F.softplus(delta + dt_bias.to(wide))
    if initial_state is None:
        states = (sizes.batch, sizes.directions, sizes.states, sizes.channels)
        state = x.new_zeros(states, dtype=wide)
    else:
        state = initial_state.to(wide).transpose(2, 3)
    y, _ = _recurrence(
        delta.transpose(0, 1),
        (delta * xs).transpose(0, 1),
        A.to(wide).transpose(1, 2),
        B.transpose(0, 1),
        C.transpose(0, 1),
        state,
    )
    ys = y.transpose(0, 1) + D_skip.to(wide) * xs
    merged = (merge_shared if merge else merge_apart)(ys, mixed_inverse(tables))
    return merged.to(out_dtype or wide), x.new_empty(0, dtype=wide)


def _selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    out_dtype: torch.dtype,
    backend: str,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(u.dtype, torch.float32)
    batch, channels = u.shape[:2]
    delta = step_size(
        delta.to(wide), None if delta_bias is None else delta_bias.to(wide), delta_softplus
    )
    drive = delta * u.to(wide)
    groups = B.shape[1]  # of channels that share B and C, in the place of directions
    if initial_state is None:
        state = u.new_zeros((batch, groups, A.shape[1], channels // groups), dtype=wide)
    else:
        state = initial_state.to(wide).unflatten(1, (groups, -1)).transpose(2, 3)
    y, last = _recurrence(
        delta.unflatten(1, (groups, -1)).permute(3, 0, 1, 2),
        drive.unflatten(1, (groups, -1)).permute(3, 0, 1, 2),
        A.to(wide).unflatten(0, (groups, -1)).transpose(1, 2),
        B.to(wide).permute(3, 0, 1, 2),
        C.to(wide).permute(3, 0, 1, 2),
        state,
    )
    y = y.permute(1, 2, 3, 0).flatten(1, 2)
    if D is not None:
        y = y + D.to(wide)[:, None] * u.to(wide)
    return y.to(out_dtype), last.transpose(2, 3).flatten(1, 2)


def inline_recurrences(model: ModelProto) -> ModelProto:
    """The model with every ``Recurrence`` written out: standard operators only."""
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    model.functions.append(_recurrence_function(opset))
    inlined = onnx.inliner.inline_local_functions(model)
    standard = [entry for entry in inlined.opset_import if entry.domain != DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(standard)
    return inlined


def _recurrence_function(opset: int) -> FunctionProto:
    """``Recurrence`` in operators of ONNX; what it reads has the axes that they broadcast."""
    node = helper.make_node
    step = [
        node("Mul", ["delta", "A"], ["rate"]),
        node("Exp", ["rate"], ["decay"]),
        node("Mul", ["decay", "before"], ["kept"]),
        node("Mul", ["B", "drive"], ["added"]),
        node("Add", ["kept", "added"], ["after"]),
        node("MatMul", ["C", "after"], ["y"]),
    ]
    reads, writes = ("before", "delta", "drive", "B", "C"), ("after", "y")
    body = helper.make_graph(step, "step", _values(reads), _values(writes))
    sequences = ["deltas", "drives", "Bs", "Cs"]
    loop = node(
        "Scan", ["state", *sequences], ["last", "ys"], num_scan_inputs=len(sequences), body=body
    )
    return helper.make_function(
        DOMAIN,
        "Recurrence",
        ["deltas", "drives", "A", "Bs", "Cs", "state"],
        ["ys", "last"],
        [loop],
        [helper.make_opsetid("", opset)],
    )


def _values(names: Sequence[str]) -> list[ValueInfoProto]:
    """Of whatever type and shape the loop is given."""
    return [ValueInfoProto(name=name) for name in names]
