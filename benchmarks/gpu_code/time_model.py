"""Estimated times of the CUDA kernels, from what they execute. Nothing here was measured on a GPU.

A launch takes as long as the slowest of: issuing its instructions, its special functions, moving
its bytes. Blocks run in waves, as many at a time as fit. How well a GPU does each of these is
assumed: the numbers are those of :class:`Assumptions`, and every table begins with them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.gpu_code.directional_scan import CHUNK, FEW_RANKS, MANY_RANKS
from benchmarks.gpu_code.figures import LANES, Figures, resident_blocks
from benchmarks.scan_layers import LayerCase
from mmquad.ops.directional_scan.cuda import plan_of
from mmquad.ops.directional_scan.layout import Sizes
from mmquad.scans import QuadScan

__all__ = ["Assumptions", "Estimate", "estimate_layer", "estimate_table"]

SCHEDULERS = 4  # of a multiprocessor
SPECIAL_CYCLES = 8  # of a scheduler, for one instruction of a warp


class Assumptions(NamedTuple):
    """Of the GPU, an H200, and of how it runs such kernels.

    Attributes:
        multiprocessors: Their number; compute capability 9.0.
        hertz: Clock under load.
        bytes_per_second: From and to memory.
        launch_seconds: Between the end of a kernel and the start of the next.
        issue_shares: By warps on a multiprocessor, the share of issue slots in use; straight lines
            in between.
    """

    multiprocessors: int = 132
    hertz: float = 1.755e9
    bytes_per_second: float = 4.3e12
    launch_seconds: float = 2.5e-6
    issue_shares: tuple[tuple[int, float], ...] = ((0, 0.0), (8, 0.6), (12, 0.7), (16, 0.75))

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.0%} with {warps}" for warps, share in self.issue_shares[1:])
        return (
            f"{self.multiprocessors} multiprocessors at {self.hertz / 1e9:g} GHz; "
            f"{self.bytes_per_second / 1e12:g} TB/s; {self.launch_seconds * 1e6:g} us between "
            f"kernels; issue slots in use {shares} warps on a multiprocessor; no time of the host, "
            "of mixing orders or of sums after the kernels; windows cost the same at all ranks"
        )

    def issue_share(self, warps: float) -> float:
        """Of a multiprocessor's issue slots, with so many warps on it."""
        return float(np.interp(warps, *zip(*self.issue_shares, strict=True)))


class Estimate(NamedTuple):
    """Seconds of all launches, and what bounds the one that takes longest."""

    seconds: float
    bound: str


class _Launch(NamedTuple):
    """``total`` and ``special``: instructions per element and direction. A block has ``threads``
    and walks through ``positions``; ``resident`` blocks fit on a multiprocessor."""

    total: float
    special: float
    blocks: int
    resident: int
    threads: int
    positions: int
    bytes: float

    def estimate(self, given: Assumptions) -> Estimate:
        together = min(self.resident, math.ceil(self.blocks / given.multiprocessors))
        waves = math.ceil(self.blocks / (given.multiprocessors * together))
        warps = together * self.threads / LANES
        walked = waves * warps * self.positions / SCHEDULERS  # by the warps of a scheduler
        bounds = {
            "issue": walked * self.total / given.issue_share(warps) / given.hertz,
            "special functions": walked * self.special * SPECIAL_CYCLES / given.hertz,
            "bytes": self.bytes / given.bytes_per_second,
        }
        bound = max(bounds, key=lambda name: bounds[name])
        return Estimate(bounds[bound] + given.launch_seconds, bound)


def estimate_layer(
    case: LayerCase, record: Mapping[str, Figures], given: Assumptions, token_bytes: int = 2
) -> tuple[Estimate, Estimate]:
    """Forward, and backward, of the op."""
    length = case.height * case.width
    directions = case.scan.directions
    sizes = Sizes(case.batch, length, length, case.channels, directions, case.states, case.ranks)
    windows = isinstance(case.scan, QuadScan)
    launches = list(_launches(sizes, case.merge, windows, record, token_bytes))
    results = []
    for phase in ("forward", "backward"):
        estimates = [launch.estimate(given) for name, launch in launches if name.endswith(phase)]
        longest = max(estimates, key=lambda each: each.seconds)
        results.append(Estimate(sum(each.seconds for each in estimates), longest.bound))
    return results[0], results[1]


def _launches(
    sizes: Sizes, merge: bool, windows: bool, record: Mapping[str, Figures], token_bytes: int
) -> Iterator[tuple[str, _Launch]]:
    plan = plan_of(sizes)
    kind = next(n for n in (1, 4, 16) if sizes.states <= n)
    elements = sizes.batch * sizes.length * sizes.channels
    columns = 4 * sizes.batch * sizes.length * sizes.columns * plan.slabs
    blocks = sizes.batch * plan.slabs * plan.segments

    def launch(name: str, directions: int, moved: float) -> tuple[str, _Launch]:
        figures = record[f"{name}, N={kind}"]
        total, special = figures.total, figures.instructions["special function"]
        more = record[f"{name}, N=1, R={MANY_RANKS}"].total - record[f"{name}, N=1"].total
        total += more / (MANY_RANKS - FEW_RANKS) * (sizes.ranks - FEW_RANKS)
        if windows and name == "backward":
            total += record["backward, N=1, windows"].total - record["backward, N=1"].total
        # As recorded; little of it grows with a block's width, and registers are what limits.
        shared = figures.shared_bytes
        resident = resident_blocks(90, figures.registers, shared, plan.width)
        grid, walked = directions * blocks, plan.span * CHUNK
        return name, _Launch(total, special, grid, resident, plan.width, walked, moved)

    states = 4 * elements * sizes.states / CHUNK
    for k in range(sizes.directions if merge else 1):
        together = 1 if merge else sizes.directions
        y = elements * (8 if merge and k else 4) * together
        moved = token_bytes * elements * together + y + (columns + states) * together
        yield launch("forward", together, moved)
    for k in range(sizes.directions):
        dx = elements * (8 if k else 4)
        read = (token_bytes + 4 + (token_bytes + 4) * windows) * elements
        yield launch("backward", 1, read + dx + 2 * columns + states)
    if plan.segments > 1:
        figures = record["combine"]
        total, special = figures.total, figures.instructions["special function"]
        lines = sizes.batch * sizes.directions * sizes.states * sizes.channels
        grid, fits = -(-lines // figures.threads), figures.resident_blocks
        combine = _Launch(total, special, grid, fits, figures.threads, plan.segments, 0)
        yield from (("combine forward", combine), ("combine backward", combine))
        moved = sizes.directions * (token_bytes * elements + columns)
        yield launch("local forward", sizes.directions, moved)
        moved = sizes.directions * (4 * elements + columns)
        yield launch("local backward", sizes.directions, moved)


def estimate_table(
    cases: Sequence[LayerCase], record: Mapping[str, Figures], given: Assumptions
) -> str:
    """Markdown, with its assumptions on top; cases of one batch size."""
    (batch,) = {case.batch for case in cases}
    lines = [
        f"estimate, not measured, of B={batch} in bfloat16. Assumed: {given}.",
        "",
        "| layer | forward us | bound by | backward us | bound by |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for case in cases:
        forward, backward = estimate_layer(case, record, given)
        lines.append(
            f"| {case.name} | {forward.seconds * 1e6:.0f} | {forward.bound} "
            f"| {backward.seconds * 1e6:.0f} | {backward.bound} |"
        )
    return "\n".join(lines)
