"""Speed and memory of a scan layer (projection included) on every backend, against unfused."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.memory import peak_bytes
from benchmarks.timing import copy_rate, measurements
from benchmarks.unfused_layer import unfused_scan
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import use_backend
from mmquad.ops.directional_scan import BACKENDS
from mmquad.scans import CrossScan, FixedScan, LocalScan, QuadScan

__all__ = [
    "CPU_CASES",
    "LENGTH_CASES",
    "MODES",
    "LayerCase",
    "benchmark_layer",
    "gpu_cases",
    "runnable_backends",
    "table",
]

MODES = ("forward", "forward+backward")


@dataclass(frozen=True)
class LayerCase:
    """One layer: its size, and the orders tokens are read in.

    ``merge``: add the directions up; LocalMamba weighs them first.
    """

    name: str
    scan: FixedScan | QuadScan
    batch: int
    height: int
    width: int
    channels: int
    states: int
    ranks: int
    merge: bool = True

    @property
    def sizes(self) -> dict[str, int]:
        """In the letters of docs/notation.md."""
        length = self.height * self.width
        directions = self.scan.directions
        values = (self.batch, length, self.channels, directions, self.states, self.ranks)
        return dict(zip("BLDKNR", values, strict=True))


def _stages(
    name: str,
    scans: Sequence[FixedScan | QuadScan],
    dim: int,
    ratio: int,
    states: int,
    batch: int,
    height: int,
    width: int,
) -> list[LayerCase]:
    """The layers of a backbone's four stages; ``dim`` channels C of the first, D = ratio C."""
    cases = []
    for i, scan in enumerate(scans):
        channels = dim * 2**i
        size = (-(-height // (4 * 2**i)), -(-width // (4 * 2**i)))
        merge = not isinstance(scan, LocalScan)
        sizes = (batch, *size, ratio * channels, states, -(-channels // 16))
        cases.append(LayerCase(f"{name} stage {i + 1}", scan, *sizes, merge))
    return cases


QUAD = (QuadScan((1, 1)), QuadScan((1, 1)), CrossScan(), CrossScan())
# Eight kinds of direction, four in a layer, as the search of LocalVMamba-tiny found them.
LOCAL = (
    LocalScan(("h", "h_flip", "w7", "w7_flip")),
    LocalScan(("v", "v_flip", "w2", "w2_flip")),
    LocalScan(("h", "w2_flip", "w7", "w7_flip")),
    LocalScan(("v_flip", "w2_flip", "w7", "w7_flip")),
)
CROSS = (CrossScan(),) * 4

CPU_CASES = (
    *_stages("QuadMamba-small", QUAD, 96, 2, 1, 1, 224, 224),
    *_stages("VMamba-tiny", CROSS, 96, 2, 1, 1, 224, 224)[:2],  # the others: QuadMamba's
    *_stages("VMamba vanilla", CROSS, 96, 2, 16, 1, 224, 224)[:1],
    *_stages("LocalVMamba-tiny", LOCAL, 96, 2, 16, 1, 224, 224),
)

# One layer at growing length, for the plot.
LENGTH_CASES = tuple(
    LayerCase(f"side {side}", QuadScan((1, 1)), 1, side, side, 96, 1, 6)
    for side in (8, 16, 32, 64, 128, 256)
)


def gpu_cases() -> list[LayerCase]:
    """QuadMamba at the sizes papers report: classification, and detection at 800 x 1344.

    Small and base have the same layers. One of VMamba and one of LocalVMamba beside them.
    """
    cases = []
    for batch, height, width in ((128, 224, 224), (2, 800, 1344)):
        sizes = (batch, height, width)
        cases += _stages("QuadMamba-tiny", QUAD, 64, 1, 1, *sizes)
        cases += _stages("QuadMamba-small/base", QUAD, 96, 2, 1, *sizes)
        cases += _stages("VMamba vanilla", CROSS, 96, 2, 16, *sizes)[:1]
        cases += _stages("LocalVMamba-tiny", LOCAL, 96, 2, 16, *sizes)[:1]
    return cases


def runnable_backends(device: str = "cpu") -> list[str]:
    """Every backend that can run on this device, best first, but for the sequential reference."""
    x = torch.zeros(1, 4, 32, device=device)
    inputs = {
        "x": x,
        "z": x.new_zeros(1, 4, 12),
        "dt_weight": x.new_zeros(4, 32, 1),
        "A": x.new_zeros(4, 32, 1),
        "order": torch.zeros(1, 4, 4, dtype=torch.long, device=device),
        "merge": True,
    }
    return [
        backend.name
        for backend in BACKENDS
        if backend.name != "reference"
        and not (backend.unavailable() or backend.unsupported(**inputs))
    ]


def benchmark_layer(
    case: LayerCase,
    backends: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    repetitions: int = 10,
    seconds: float = float("inf"),
    measure: Callable[..., Any] | None = None,
) -> list[dict[str, Any]]:
    """One row per implementation and mode.

    Args:
        case: The layer.
        backends: Names; by default :func:`runnable_backends`.
        dtype: Of the tokens. The parameters are float32; 16 bits run under autocast.
        device: Where to run.
        repetitions: Timed calls of each.
        seconds: At most about this long for the timing, if that leaves three timed calls.
        measure: A :func:`~benchmarks.memory.fresh_process`, to measure peak memory.

    Returns:
        Rows with the sizes, what :func:`~benchmarks.timing.measurements` returns, and
        ``roofline``: the time in which the bytes that must move could be copied over the median.
    """
    where = torch.device(device)
    names = ["unfused", *(runnable_backends(device) if backends is None else backends)]
    rate = copy_rate(where, 32 if where.type == "cpu" else 256)
    rows = []
    for mode in MODES:
        functions = {name: layer_function(case, name, dtype, device, mode) for name in names}
        peak = None
        if measure is not None:
            peak = functools.partial(_measured_peak, measure, case, dtype, device, mode)
        results = measurements(functions, repetitions, where, seconds / len(MODES), peak)
        ideal = 1e3 * bytes_to_move(case, dtype, mode) / rate
        for name, result in results.items():
            row = {
                "layer": case.name,
                "height": case.height,
                "width": case.width,
                **case.sizes,
                "dtype": str(dtype).removeprefix("torch."),
                "device": where.type,
                "mode": mode,
                "implementation": name,
                "copy_gb_per_s": rate / 1e9,
                **result,
            }
            if "error" not in row:
                row["roofline"] = ideal / row["median_ms"]
            rows.append(row)
    return rows


def layer_function(
    case: LayerCase, implementation: str, dtype: torch.dtype, device: str, mode: str
) -> Callable[[], object]:
    """One call of a layer, with parameters and inputs of its own."""
    torch.manual_seed(0)
    where = torch.device(device)
    ssm = SelectiveSSM(case.channels, case.states, case.ranks, case.scan.directions).to(where)
    shape = (case.batch, case.height, case.width, case.channels)
    x = torch.randn(shape, dtype=dtype, device=where, requires_grad=True)
    leaves = [x, *ssm.parameters()]
    weight = None
    tables: tuple[Tensor, ...] = tuple(case.scan.tables(case.height, case.width, where)[:2])
    if isinstance(case.scan, QuadScan):
        chosen = torch.arange(case.batch, device=where) % 4
        weight = F.one_hot(chosen, 4).float().requires_grad_()
        leaves.append(weight)
        tables += (case.scan.tables(case.height, case.width, where).window, weight)

    def layer() -> Tensor:
        with torch.autocast(where.type, dtype, enabled=dtype in (torch.float16, torch.bfloat16)):
            if implementation == "unfused":
                return unfused_scan(ssm, x, case.scan, weight, case.merge)
            with use_backend(implementation):
                return ssm.scan_tokens(x.flatten(1, 2), *tables, merge=case.merge)

    if mode == "forward":
        return torch.no_grad()(layer)
    # Any upstream gradient will do; one dtype serves them all, as all outputs are float32.
    upstream = torch.randn(1, device=where)

    def train() -> object:
        y = layer()
        return torch.autograd.grad(y, leaves, upstream.to(y.dtype).expand_as(y))

    return train


def _measured_peak(
    measure: Callable[..., Any],
    case: LayerCase,
    dtype: torch.dtype,
    device: str,
    mode: str,
    implementation: str,
) -> int:
    return measure(_layer_peak, case, implementation, dtype, device, mode)


def _layer_peak(
    case: LayerCase, implementation: str, dtype: torch.dtype, device: str, mode: str
) -> int:
    function = layer_function(case, implementation, dtype, device, mode)
    return peak_bytes(function, torch.device(device))


def bytes_to_move(case: LayerCase, dtype: torch.dtype, mode: str) -> int:
    """Read x, write y in float32; backward also reads dy and x again and writes dx.

    What an ideal implementation with unlimited cache would move to and from memory.
    """
    tokens = case.batch * case.height * case.width * case.channels
    reads, writes = dtype.itemsize, 4 * (1 if case.merge else case.scan.directions)
    once = tokens * (reads + writes)
    return once if mode == "forward" else 2 * once + tokens * dtype.itemsize


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = "| layer | B | L | D | K | N | dtype | mode | implementation "
    head += "| ms | CPU ms | peak MiB | of copy rate | faster (CPU) | memory |"
    lines = [head, "|" + "---|" * 15]
    for row in rows:
        sizes = " | ".join(str(row[key]) for key in "BLDKN")
        cells = [row["layer"], sizes, row["dtype"], row["mode"], row["implementation"]]
        if "error" in row:
            cells += [f"cannot run: {row['error']}", *[""] * 5]
        else:
            peak, ratio = row["peak_bytes"], row.get("memory_ratio")
            faster = f"{row['speedup']:.1f}x" if "speedup" in row else ""
            if faster and row["device"] == "cpu":
                faster += f" ({row['speedup_cpu']:.1f}x)"
            cells += [
                f"{row['median_ms']:.2f}",
                f"{row['cpu_ms']:.2f}",
                "" if peak is None else f"{peak / 2**20:.1f}",
                f"{row['roofline']:.1%}",
                faster,
                "" if ratio is None else f"{ratio:.2f}x",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
