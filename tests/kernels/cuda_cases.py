"""Inputs for the CUDA kernels, and the comparison with the reference: emulated and on a GPU."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmquad.ops import directional_scan
from mmquad.scans import QuadScan

# Relative, of the Euclidean norm. Inputs are rounded before the reference sees them; gradients of
# narrow inputs are rounded once at the end.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


class Case(NamedTuple):
    """Sizes; ``empty`` positions beside the tokens; two windowed orders instead of a fixed one."""

    batch: int
    length: int
    channels: int
    directions: int
    states: int
    ranks: int
    empty: int = 0
    windows: bool = False
    merge: bool = True


# All three kernels (N = 1, up to 4, up to 16), one and several slabs of channels, chunks and tiles
# that are not full.
CASES = [
    Case(1, 1, 1, 1, 1, 1),
    Case(2, 49, 33, 4, 1, 3),
    Case(1, 136, 70, 2, 8, 5),
    Case(3, 63, 8, 1, 2, 1),
    Case(1, 65, 160, 2, 4, 11),
    Case(2, 130, 100, 2, 1, 2, windows=True),
    Case(1, 135, 40, 2, 16, 2, windows=True),
    Case(2, 70, 33, 3, 3, 1, empty=80),
    Case(2, 70, 33, 2, 1, 3, empty=80, merge=False),
    Case(1, 66, 5, 2, 16, 2, merge=False),
]


class Sample(NamedTuple):
    leaves: dict[str, Tensor]
    tables: dict[str, Tensor]
    upstream: Tensor


def make(case: Case, dtype: torch.dtype) -> Sample:
    """Random inputs in ``dtype``, parameters in float32; on the CPU."""
    generator = torch.Generator().manual_seed(case.length + case.states)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batch, length, d, k, n, r = case[:6]
    leaves = {
        "x": normal(batch, length, d).to(dtype),
        "z": normal(batch, length, k * (r + 2 * n)).to(dtype),
        "dt_weight": normal(k, d, r) * r**-0.5,
        "dt_bias": normal(k, d) - 1,
        "A": -normal(k, d, n).exp(),
        "D_skip": normal(k, d),
    }
    if case.windows:
        quad = QuadScan((1, -1)).tables(5, length // 5, torch.device("cpu"))
        tables = {"order": quad.order, "inverse": quad.inverse, "window": quad.window}
        leaves["weight"] = (normal(batch, 4) > 0).float()
    else:
        positions = length + case.empty
        order = torch.full((1, k, positions), -1)
        inverse = torch.empty(1, k, length, dtype=torch.int64)
        for direction in range(k):
            inverse[0, direction] = torch.randperm(positions, generator=generator)[:length]
            order[0, direction, inverse[0, direction]] = torch.arange(length)
        tables = {"order": order, "inverse": inverse}
    return Sample(leaves, tables, normal(batch, k, length, d))


def run(sample: Sample, case: Case, backend: str, device: str = "cpu", wide: bool = False) -> dict:
    """Output and gradients by name, on the CPU; ``wide``: in float64."""

    def moved(value: Tensor) -> Tensor:
        value = value.to(device)
        return value.double() if wide and value.is_floating_point() else value

    leaves = {name: moved(value).requires_grad_() for name, value in sample.leaves.items()}
    tables = {name: moved(value) for name, value in sample.tables.items()}
    y = directional_scan(**leaves, **tables, merge=case.merge, backend=backend)
    upstream = moved(sample.upstream).to(y.dtype)
    grads = torch.autograd.grad(
        y, list(leaves.values()), upstream[:, 0] if case.merge else upstream
    )
    results = {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}
    return {name: value.cpu() for name, value in results.items()}


def assert_close(actual: dict, expected: dict, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.isfinite().all(), name
        assert value.shape == expected[name].shape, name
        difference = (value.double() - expected[name].double()).norm()
        assert difference <= tolerance * expected[name].norm() + 1e-30, (
            f"{name}: relative error {difference / expected[name].norm():.2e} > {tolerance}"
        )
