"""What the ops of this package are made of, for runtimes that do not have them.

Out of place throughout: ``run_decompositions`` accepts nothing else.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmquad.export.doubling import selective_scan_doubling
from mmquad.ops.causal_conv1d.pytorch import causal_conv1d_pytorch
from mmquad.ops.directional_scan.composed import composed_forward
from mmquad.ops.directional_scan.layout import Order, mixed_inverse, mixed_order
from mmquad.ops.directional_scan.reordering import gather_shared, merge_apart, merge_shared
from mmquad.scans.library import scan_named

__all__ = ["scan_decompositions"]


def scan_decompositions() -> dict[torch._ops.OpOverload, Callable]:
    """The forward of every op in ``mmquad::``, written with PyTorch's own operations.

    For ``ExportedProgram.run_decompositions``. Saved states, which only a gradient reads, are left
    empty.
    """
    ops = torch.ops.mmquad
    return {
        ops.directional_scan.default: _directional_scan,
        ops.selective_scan.default: _selective_scan,
        ops.causal_conv1d.default: _causal_conv1d,
        ops.gather_tokens.default: lambda x, index, inverse: gather_shared(x, index),
        ops.gather_tokens_windowed.default: _gather_tokens_windowed,
        ops.merge_tokens.default: lambda y, index, inverse: merge_shared(y, inverse),
        ops.merge_tokens_windowed.default: _merge_tokens_windowed,
        ops.scan_tables.default: _scan_tables,
        ops.return_directions.default: lambda y, index, inverse: merge_apart(y, inverse),
    }


def _scan_tables(scan: str, height: int, width: int, device: torch.device) -> list[Tensor]:
    return [table.to(device) for table in scan_named(scan).build(height, width)]


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
    y = composed_forward(
        selective_scan_doubling,
        x.to(wide),
        z.to(wide),
        dt_weight.to(wide),
        dt_bias.to(wide),
        A.to(wide),
        D_skip.to(wide),
        Order(order, inverse, window, weight),
        merge,
        None if initial_state is None else initial_state.to(wide),
    )
    return y.to(out_dtype or wide), x.new_empty(0, dtype=wide)


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
    y, last = selective_scan_doubling(
        u.to(wide),
        delta.to(wide),
        A.to(wide),
        B.to(wide),
        C.to(wide),
        None if D is None else D.to(wide),
        None if delta_bias is None else delta_bias.to(wide),
        delta_softplus,
        None if initial_state is None else initial_state.to(wide),
    )
    return y.to(out_dtype), last


def _causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool, backend: str
) -> Tensor:
    return causal_conv1d_pytorch(x, weight, bias, activation, reverse).to(x.dtype)


def _gather_tokens_windowed(
    x: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    return gather_shared(x, mixed_order(Order(index, inverse, window, weight)))


def _merge_tokens_windowed(
    y: Tensor, weight: Tensor, index: Tensor, inverse: Tensor, window: Tensor
) -> Tensor:
    return merge_shared(y, mixed_inverse(Order(index, inverse, window, weight)))
