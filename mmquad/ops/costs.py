"""What the ops cost, from shapes: the one place with formulas, for every counter of FLOPs.

The convention of the vision Mamba papers: multiply-adds of convolutions and matrix products, and
elementary operations of the scan, ``9 B L D N``, and ``B L D`` for the skip term. A multiply-add is
two FLOPs to ``torch.utils.flop_counter`` and one to mmengine, fvcore and the papers; operations of
the scan are one each to all. Reordering tokens costs nothing. A gradient costs twice its op, as
torch counts those of a product: the scan is run again, and once more backwards.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.utils.flop_counter import register_flop_formula

__all__ = [
    "COSTS",
    "Cost",
    "activation_handles",
    "register_flops",
    "scan_handles",
    "selective_scan_flops",
]

Shape = Sequence[int]
Handle = Callable[[Sequence[Any], Sequence[Any]], int]


class Cost(NamedTuple):
    """Of one call: multiply-adds, and elementary operations of a scan."""

    macs: int
    scan_ops: int


def selective_scan_flops(batch: int, length: int, channels: int, state: int, skip: bool) -> int:
    """Elementary operations of one scan, whichever backend runs it."""
    return 9 * batch * length * channels * state + (batch * length * channels if skip else 0)


def _selective_scan(
    u: Shape, delta: Shape, A: Shape, B: Shape, C: Shape, D: Shape | None, *_: Any
) -> Cost:
    batch, channels, length = u
    return Cost(0, selective_scan_flops(batch, length, channels, A[1], skip=D is not None))


def _directional_scan(
    x: Shape, z: Shape, dt_weight: Shape, dt_bias: Shape, A: Shape, D: Shape, order: Shape, *_: Any
) -> Cost:
    """The projection of step sizes is a matrix product, as in every other formulation."""
    batch, length, channels = x
    directions, _channels, ranks = dt_weight
    scan = selective_scan_flops(batch, order[2], directions * channels, A[2], skip=True)
    return Cost(batch * length * directions * channels * ranks, scan)


def _causal_conv1d(x: Shape, weight: Shape, *_: Any) -> Cost:
    batch, length, channels = x
    return Cost(batch * length * channels * weight[1], 0)


def _nothing(*_: Any) -> Cost:
    return Cost(0, 0)


# By the op's name; from the shapes of its arguments, None for what is absent or no tensor.
COSTS: dict[str, Callable[..., Cost]] = {
    "selective_scan": _selective_scan,
    "directional_scan": _directional_scan,
    "causal_conv1d": _causal_conv1d,
    **dict.fromkeys(
        (
            "gather_tokens",
            "merge_tokens",
            "read_directions",
            "return_directions",
            "gather_tokens_windowed",
            "merge_tokens_windowed",
            "scan_tables",  # of mmquad.scans
        ),
        _nothing,
    ),
}


def register_flops(op: Any, backward_op: Any, upstream: int) -> None:
    """Tell ``torch.utils.flop_counter``.

    Args:
        op: An op of :data:`COSTS`.
        backward_op: The op of its gradient.
        upstream: How many arguments of ``backward_op`` come before those of ``op``.
    """

    def flops(*shapes: Any, **_: Any) -> int:
        macs, scan_ops = COSTS[op._name](*shapes)
        return 2 * macs + scan_ops

    register_flop_formula(op._opoverload.overloadpacket)(flops)
    register_flop_formula(backward_op._opoverload.overloadpacket)(
        lambda *shapes, **_: 2 * flops(*shapes[upstream:])
    )


def scan_handles() -> dict[str, Handle]:
    """Handles for counters that read a ``torch.jit`` trace: mmengine's and fvcore's.

    mmengine's ``FlopAnalyzer`` and ``get_model_complexity_info``, and with them the ``get_flops``
    tools of mmdet, mmseg and mmpretrain, have these once a backbone of this package has been
    constructed; fvcore's ``FlopCountAnalysis`` if fvcore was imported before that. Elsewhere::

        FlopCountAnalysis(model, image).set_op_handle(**scan_handles())

    Example:
        >>> sorted(scan_handles())[0]
        'mmquad::causal_conv1d'
    """

    def handle(cost: Callable[..., Cost]) -> Handle:
        return lambda inputs, outputs: sum(cost(*map(_traced_shape, inputs)))

    return {f"mmquad::{name}": handle(cost) for name, cost in COSTS.items()}


def activation_handles() -> dict[str, Handle]:
    """The same for counters of activations: outputs of convolutions, and of nothing else here."""

    def outputs_of(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return math.prod(_traced_shape(outputs[0]) or [0])

    nothing = {f"mmquad::{name}": lambda inputs, outputs: 0 for name in COSTS}
    return nothing | {"mmquad::causal_conv1d": outputs_of}


def _traced_shape(value: Any) -> list[int] | None:
    """Shape of a value of a traced graph; None for what is no tensor, as for an absent skip."""
    return value.type().sizes() if value.isCompleteTensor() else None
