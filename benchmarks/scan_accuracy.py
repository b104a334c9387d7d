"""Accuracy of every scan backend, output and gradients, against the equations in float64.

Errors are relative, in the Euclidean norm of a whole tensor. The float64 values come from the
sequential reference for up to ``SEQUENTIAL`` tokens and from the chunked form, which tests hold to
it, beyond. Memory that a backend receives is filled with NaN first, so that nothing it forgets to
write goes unnoticed.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmquad.ops import directional_scan, selective_scan
from mmquad.ops.backend import BackendSet
from mmquad.ops.directional_scan import BACKENDS as DIRECTIONAL_SCAN
from mmquad.ops.selective_scan import BACKENDS as SELECTIVE_SCAN
from mmquad.scans import CrossScan, QuadScan

__all__ = [
    "LIMITS",
    "OPS",
    "SHAPES",
    "Point",
    "Result",
    "check_point",
    "extreme_points",
    "grid",
    "lasting_points",
    "runnable",
    "uninitialised_memory_is_nan",
    "values",
    "worst_errors",
]

LIMITS = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
OPS: dict[str, BackendSet] = {
    "directional_scan": DIRECTIONAL_SCAN,
    "selective_scan": SELECTIVE_SCAN,
}

# Tokens, and the rows and columns they lie in: from one token to maps of 800 x 1344 images.
SHAPES = {
    1: (1, 1),
    2: (1, 2),
    49: (7, 7),
    63: (7, 9),
    64: (8, 8),
    65: (5, 13),
    196: (14, 14),
    784: (28, 28),
    1050: (25, 42),
    3136: (56, 56),
    16800: (100, 168),
    67200: (200, 336),
}
STATES = (1, 2, 4, 8, 16)
DIRECTIONS = (1, 2, 4)
RAW_STEPS = (-30.0, -10.0, 0.0, 19.99, 20.0, 20.01, 88.0, 100.0)
DECAYS = (-1e-4, -1.0, -16.0, -1e3)

SEQUENTIAL = 196
RANKS = 2

# Decays below float32's smallest normal number, 1e-38, are lost; a gradient that consists of them,
# times states and steps of up to 1e3 each, is held to this norm instead of its own.
UNDERFLOW = 1e-27


@dataclass(frozen=True)
class Point:
    """One set of inputs.

    ``raw_step`` and ``decay`` replace all steps before softplus and all of A. ``strided``: inputs
    lie in memory with gaps.
    """

    op: str
    length: int
    states: int
    directions: int
    dtype: torch.dtype
    raw_step: float | None = None
    decay: float | None = None
    strided: bool = False

    @property
    def channels(self) -> int:
        """Never a multiple of what backends handle at once; fewer where there are many tokens."""
        return 70 if self.length <= 196 else 33 if self.length <= 3136 else 5

    @property
    def batch(self) -> int:
        return 2 if self.length <= 196 else 1


@dataclass(frozen=True)
class Result:
    """The relative error of the output ``y`` and of every gradient, by name."""

    point: Point
    backend: str
    errors: dict[str, float]


def grid(lengths: Iterable[int], dtypes: Iterable[torch.dtype]) -> Iterator[Point]:
    """All of ``STATES`` and ``DIRECTIONS``; every other point with gaps in memory."""
    combinations = itertools.product(OPS, lengths, dtypes, STATES, DIRECTIONS)
    for i, (op, length, dtype, states, directions) in enumerate(combinations):
        yield Point(op, length, states, directions, dtype, strided=i % 2 == 1)


def extreme_points() -> Iterator[Point]:
    """One step size and one decay rate at a time: no gradient can hide the error of another."""
    for op, raw_step, decay in itertools.product(OPS, RAW_STEPS, DECAYS):
        yield Point(op, 65, 1, 2, torch.float32, raw_step, decay)


def lasting_points() -> Iterator[Point]:
    """Decays so close to 1 that over a long sequence their rounding could add up."""
    for op, raw_step, decay in itertools.product(OPS, (-10.0, 0.0, 20.0), (-1e-4, -1.0)):
        yield Point(op, max(SHAPES), 1, 2, torch.float32, raw_step, decay)


def runnable(point: Point, device: torch.device) -> list[str]:
    """Backends that can run a point; the sequential one only where it takes seconds at most."""
    names = []
    for backend in OPS[point.op]:
        if backend.unavailable() or (backend.name == "reference" and point.length > SEQUENTIAL):
            continue
        inputs = _arguments(point, _inputs(point, device)[0]) | _tables(point, device)
        if not backend.unsupported(**inputs, merge=True):
            names.append(backend.name)
    return names


def check_point(point: Point, backends: Iterable[str], device: torch.device) -> list[Result]:
    """Errors of each backend."""
    exact = "reference" if point.length <= SEQUENTIAL else "chunked"
    expected = values(point, exact, device, torch.float64)
    results = []
    for backend in backends:
        with uninitialised_memory_is_nan():
            actual = values(point, backend, device)
        errors = {name: _error(actual[name], expected[name]) for name in expected}
        results.append(Result(point, backend, errors))
    return results


def worst_errors(results: Iterable[Result]) -> str:
    """A Markdown table: per op, backend and dtype the worst output and the worst gradient."""
    worst: dict[tuple[str, ...], dict[str, tuple[float, str]]] = {}
    for result in results:
        point = result.point
        kind = str(point.dtype).removeprefix("torch.")
        kind += "" if point.raw_step is None else ", extreme"
        row = worst.setdefault((point.op, result.backend, kind, f"{LIMITS[point.dtype]:g}"), {})
        for name, error in result.errors.items():
            column = "y" if name == "y" else "gradient"
            where = f"{name}, L={point.length} N={point.states} K={point.directions}"
            if point.raw_step is not None:
                where += f" step {point.raw_step:g} A {point.decay:g}"
            # NaN compares as no error at all, and is the largest one.
            if column not in row or not error <= row[column][0]:
                row[column] = (error, where)
    lines = [
        "| op | backend | inputs | limit | worst y | at | worst gradient | at |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, row in worst.items():
        cells = [f"{row[c][0]:.1e} | {row[c][1]}" for c in ("y", "gradient")]
        lines.append("| " + " | ".join((*key, *cells)) + " |")
    return "\n".join(lines)


def values(
    point: Point, backend: str, device: torch.device, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Output and gradients by name, computed from inputs widened to ``dtype`` if one is given."""
    inputs, upstream = _inputs(point, device)
    leaves = {n: v.to(dtype or v.dtype).requires_grad_() for n, v in inputs.items()}
    if point.strided and dtype is None:
        leaves = {name: _with_gaps(value) for name, value in leaves.items()}
    y = _function(point, backend, device)(**leaves)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream.to(y.dtype))
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


@contextmanager
def uninitialised_memory_is_nan() -> Iterator[None]:
    """Fill what ``torch.empty`` returns, by PyTorch's deterministic mode."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _function(point: Point, backend: str, device: torch.device) -> Callable[..., Tensor]:
    tables: dict[str, Any] = _tables(point, device)

    def scan(**leaves: Tensor) -> Tensor:
        arguments: dict[str, Any] = _arguments(point, leaves)
        if point.op == "directional_scan":
            return directional_scan(**arguments, **tables, backend=backend)
        wide = torch.promote_types(arguments["u"].dtype, torch.float32)
        y = selective_scan(**arguments, delta_softplus=True, out_dtype=wide, backend=backend)
        assert isinstance(y, Tensor)
        return y

    return scan


def _arguments(point: Point, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves in the shapes of the op; those of the selective scan lie token after token."""
    if point.op == "directional_scan":
        return dict(leaves)
    tokens = {name: leaves[name].transpose(1, 2) for name in ("u", "delta")}
    groups = {name: leaves[name].permute(0, 2, 3, 1) for name in ("B", "C")}
    return leaves | tokens | groups


def _tables(point: Point, device: torch.device) -> dict[str, Tensor]:
    if point.op != "directional_scan":
        return {}
    height, width = SHAPES[point.length]
    if point.directions == 2:
        quad = QuadScan((1, -1)).tables(height, width, device)
        return {"order": quad.order, "inverse": quad.inverse, "window": quad.window}
    cross = CrossScan().tables(height, width, device)
    return {
        "order": cross.order[:, : point.directions],
        "inverse": cross.inverse[:, : point.directions],
    }


def _inputs(point: Point, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Differentiable inputs by name, and the gradient of the output."""
    seed = 1000 * point.length + 10 * point.states + point.directions
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    wide = torch.promote_types(point.dtype, torch.float32)
    b, length, d, k, n = point.batch, point.length, point.channels, point.directions, point.states
    A = -normal(k, d, n).exp() if point.decay is None else torch.full((k, d, n), point.decay)
    bias = normal(k, d) if point.raw_step is None else torch.full((k, d), point.raw_step)
    # An extreme step is meant to be the same everywhere, up to a little.
    spread = 1.0 if point.raw_step is None else 0.01
    if point.op == "directional_scan":
        leaves = {
            "x": normal(b, length, d).to(point.dtype),
            "z": normal(b, length, k * (RANKS + 2 * n)).to(point.dtype),
            "dt_weight": normal(k, d, RANKS).mul_(spread * RANKS**-0.5).to(wide),
            "dt_bias": bias.to(wide),
            "A": A.to(wide),
            "D_skip": normal(k, d).to(wide),
        }
        if k == 2:
            leaves["weight"] = torch.eye(4)[torch.arange(b) % 4].to(wide)
        upstream = normal(b, length, d)
    else:
        leaves = {
            "u": normal(b, length, k * d).to(point.dtype),
            "delta": normal(b, length, k * d).mul_(spread).to(point.dtype),
            "A": A.flatten(0, 1).to(wide),
            "B": normal(b, length, k, n).to(point.dtype),
            "C": normal(b, length, k, n).to(point.dtype),
            "D": normal(k * d).to(wide),
            "delta_bias": bias.flatten().to(wide),
        }
        upstream = normal(b, k * d, length)
    return {name: leaf.to(device) for name, leaf in leaves.items()}, upstream.to(device)


def _with_gaps(leaf: Tensor) -> Tensor:
    padded = torch.stack([leaf.detach(), torch.full_like(leaf, torch.nan)], dim=-1)
    return padded[..., 0].requires_grad_()


def _error(actual: Tensor, expected: Tensor) -> float:
    difference = (actual.double() - expected).norm()
    return (difference / expected.norm().clamp(min=UNDERFLOW)).item()
