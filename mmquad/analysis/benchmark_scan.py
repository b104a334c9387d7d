"""Speed of one scan layer (projection included) on every backend, against the unfused pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.analysis.benchmark import compare, copy_rate
from mmquad.analysis.unfused_layer import unfused_scan
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import directional_scan, use_backend
from mmquad.ops.directional_scan import BACKENDS
from mmquad.scans import CrossScan, QuadScan

__all__ = ["CASES", "LayerCase", "benchmark_layer", "table"]


@dataclass(frozen=True)
class LayerCase:
    """One layer: K = 2 is the quadtree scan, K = 4 the cross scan."""

    batch: int
    height: int
    width: int
    channels: int
    directions: int
    states: int

    @property
    def length(self) -> int:
        return self.height * self.width


# QuadMamba-small at 224 x 224, and its first stage with Mamba's 16 states.
CASES = (
    LayerCase(1, 56, 56, 192, 2, 1),
    LayerCase(1, 28, 28, 384, 2, 1),
    LayerCase(1, 14, 14, 768, 4, 1),
    LayerCase(1, 7, 7, 1536, 4, 1),
    LayerCase(1, 56, 56, 192, 2, 16),
)


def benchmark_layer(
    case: LayerCase,
    backends: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    repetitions: int = 10,
) -> list[dict[str, Any]]:
    """One row per implementation and mode (forward; forward and backward).

    Args:
        case: The layer.
        backends: Names; by default every one but the reference that can run here.
        dtype: Of the tokens.
        device: Where to run.
        repetitions: Timed calls of each.

    Returns:
        Rows with milliseconds, the ratio to the unfused layer, and the fraction of the speed at
        which the bytes that must move could be copied.
    """
    where = torch.device(device)
    if backends is None:
        backends = [b.name for b in BACKENDS if b.name != "reference" and not b.unavailable()]
    torch.manual_seed(0)
    ssm = SelectiveSSM(case.channels, case.states, -(-case.channels // 32), case.directions)
    ssm = ssm.to(where)
    x = torch.randn(case.batch, case.length, case.channels, dtype=dtype, device=where)
    x.requires_grad_()
    tables = _tables(case, where)
    upstream = torch.randn(x.shape, device=where)
    leaves = [x, *ssm.parameters()]
    leaves += [t for t in tables if t.requires_grad]

    def layer(backend: str) -> Tensor:
        with torch.autocast(where.type, dtype, enabled=dtype in (torch.float16, torch.bfloat16)):
            if backend == "unfused":
                return unfused_scan(ssm, x, *tables)
            with use_backend(backend):
                return _fused_scan(ssm, x, *tables)

    def inference(backend: str) -> Callable[[], object]:
        def run() -> Tensor:
            with torch.no_grad():
                return layer(backend)

        return run

    def training(backend: str) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(backend), leaves, upstream)

    names = ["unfused", *backends]
    rate = copy_rate(where)
    rows = []
    for mode, make in (("forward", inference), ("forward+backward", training)):
        timings = compare({name: make(name) for name in names}, repetitions, where)
        ideal = 1e3 * _bytes_to_move(case, dtype, mode) / rate
        for name, timing in timings.items():
            rows.append(
                {
                    **asdict(case),
                    "dtype": str(dtype).removeprefix("torch."),
                    "mode": mode,
                    "implementation": name,
                    "median_ms": timing.median,
                    "best_ms": timing.best,
                    "cpu_ms": timing.cpu,
                    "speedup_best": timings["unfused"].best / timing.best,
                    "speedup_cpu": timings["unfused"].cpu / timing.cpu,
                    "roofline": ideal / timing.best,
                }
            )
    return rows


def _fused_scan(ssm: SelectiveSSM, x: Tensor, *tables: Tensor) -> Tensor:
    z = F.linear(x, ssm.x_proj.flatten(0, 1))
    parameters = (ssm.dt_proj, ssm.dt_bias, -ssm.A_log.exp(), ssm.D_skip)
    return directional_scan(x, z, *parameters, *tables)


def _tables(case: LayerCase, device: torch.device) -> tuple[Tensor, ...]:
    if case.directions == 4:
        return tuple(CrossScan().tables(case.height, case.width, device))
    if case.directions != 2:
        raise ValueError(f"K must be 2 (quadtree scan) or 4 (cross scan), got {case.directions}")
    quad = QuadScan((1, 1)).tables(case.height, case.width, device)
    chosen = torch.arange(case.batch, device=device) % 4
    weight = F.one_hot(chosen, 4).float().requires_grad_()
    return quad.order, quad.inverse, quad.window, weight


def _bytes_to_move(case: LayerCase, dtype: torch.dtype, mode: str) -> int:
    """Read x, write y in float32; backward also reads dy and x again and writes dx."""
    elements = case.batch * case.length * case.channels
    forward = dtype.itemsize + 4
    return elements * (forward if mode == "forward" else 2 * forward + 2 * dtype.itemsize)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = "| B | L | D | K | N | dtype | mode | implementation | median ms | best ms | CPU ms "
    lines = [head + "| vs unfused (best) | (CPU) | of copy rate |", "|" + "---|" * 14]
    for row in rows:
        length = row["height"] * row["width"]
        size = f"| {row['batch']} | {length} | {row['channels']} | {row['directions']} "
        what = f"| {row['states']} | {row['dtype']} | {row['mode']} | {row['implementation']} "
        times = "".join(f"| {row[key]:.2f} " for key in ("median_ms", "best_ms", "cpu_ms"))
        ratios = (
            f"| {row['speedup_best']:.1f}x | {row['speedup_cpu']:.1f}x | {row['roofline']:.1%} |"
        )
        lines.append(size + what + times + ratios)
    return "\n".join(lines)
