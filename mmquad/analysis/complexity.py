"""Multiply-adds, scan operations and parameters, counted as the vision Mamba papers do.

The papers quote "FLOPs" that are multiply-adds of convolutions, linear layers and matrix products
(one per pair, not two), plus the elementary operations of the selective scan, ``9 B L D N`` and
``B L D`` for the skip term. Norms, activations, softmax and token reordering count as nothing.
Everything is counted where it is executed, so window selectors are included, and the figure does
not depend on the backend that runs the scan.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmquad.scans  # noqa: F401  # defines the ops on tokens and tables, which have costs too
from mmquad.ops.costs import COSTS, scan_handles

__all__ = ["Complexity", "count_complexity", "scan_handles"]

# directional_scan: its projection of step sizes, a matrix product in every other formulation.
_MATRIX_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "directional_scan"}


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass.

    Attributes:
        macs: Multiply-adds by kind: ``convolution``, ``matmul``, else the operator's name.
        scan_ops: Elementary operations of selective scans.
        params: Parameters, trainable or not.
    """

    macs: dict[str, int]
    scan_ops: int
    params: int

    @property
    def total_macs(self) -> int:
        """Multiply-adds without the scan."""
        return sum(self.macs.values())

    @property
    def total(self) -> int:
        """What the papers call FLOPs: multiply-adds plus scan operations."""
        return self.total_macs + self.scan_ops

    def __str__(self) -> str:
        return (
            f"{self.total / 1e9:.2f} G (multiply-adds {self.total_macs / 1e9:.3f} G, "
            f"scan {self.scan_ops / 1e9:.3f} G), {self.params / 1e6:.2f} M parameters"
        )


def count_complexity(
    model: nn.Module, input_shape: Sequence[int], *, device: torch.device | str = "meta"
) -> Complexity:
    """Count one forward pass of ``model`` in evaluation mode; the model is not changed.

    Args:
        model: Any module with one tensor argument.
        input_shape: Shape of that argument, e.g. ``(1, 3, 224, 224)``.
        device: Where a copy of the model runs. ``meta`` computes nothing, so any size is free; a
            model whose control flow depends on values needs a real device.

    Example:
        >>> from torch import nn
        >>> count_complexity(nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 10)).macs
        {'convolution': 21600}
    """
    twin = copy.deepcopy(model).to(device).eval()
    scans: Counter[str] = Counter()
    counter = FlopCounterMode(display=False, custom_mapping=_scan_formulas(scans))
    with torch.no_grad(), counter:
        twin(torch.zeros(tuple(input_shape), device=device))
    macs: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts().get("Global", {}).items():
        name = str(operator).split(".")[-1]
        # torch counts a multiply-add as two operations.
        macs[_kind(name)] += flops // 2
    params = sum(parameter.numel() for parameter in model.parameters())
    return Complexity({k: n for k, n in macs.items() if n}, scans.total(), params)


def _kind(operator: str) -> str:
    if operator in _MATRIX_PRODUCTS:
        return "matmul"
    return "convolution" if operator in ("convolution", "causal_conv1d") else operator


def _scan_formulas(scans: Counter[str]) -> dict[Any, Callable[..., int]]:
    """Formulas that add scan operations to ``scans`` and return what is left: multiply-adds x 2."""

    def formula(name: str) -> Callable[..., int]:
        def count(*shapes: Any, **_: Any) -> int:
            macs, scan_ops = COSTS[name](*shapes)
            scans[name] += scan_ops
            return 2 * macs

        return count

    return {getattr(torch.ops.mmquad, name): formula(name) for name in COSTS}
