"""Speed, memory and parts of whole backbones, against the same with unfused scan layers."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory import peak_bytes
from benchmarks.scan_layers import runnable_backends
from benchmarks.timing import measurements
from benchmarks.unfused_layer import unfused
from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVMamba,
    MambaVision,
    QuadMamba,
    SpatialMamba,
    VMamba,
)
from mmquad.ops import use_backend

__all__ = [
    "CPU_CASES",
    "MODES",
    "PARTS",
    "BackboneCase",
    "benchmark_backbone",
    "breakdown",
    "breakdown_table",
    "gpu_cases",
    "table",
]

MODES = ("inference", "training step")

# What a profiled operator belongs to; the first entry whose prefix fits. Operators that are not
# listed belong to the listed one that called them, or to the rest.
_OPERATORS = (
    ("mmquad::", "scan"),
    ("aten::convolution", "convolution"),
    ("aten::conv", "convolution"),
    ("aten::mkldnn_conv", "convolution"),
    ("aten::linear", "matmul"),
    ("aten::matmul", "matmul"),
    ("aten::mm", "matmul"),
    ("aten::addmm", "matmul"),
    ("aten::bmm", "matmul"),
    ("aten::baddbmm", "matmul"),
    ("aten::layer_norm", "norm"),
    ("aten::native_layer_norm", "norm"),
    ("aten::gelu", "activation"),
    ("aten::silu", "activation"),
    ("aten::contiguous", "copy"),
    ("aten::clone", "copy"),
    ("aten::copy_", "copy"),
    ("aten::cat", "copy"),
)
PARTS = ("scan", "matmul", "convolution", "norm", "activation", "copy", "rest")

_BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "QuadMamba": QuadMamba,
    "VMamba": VMamba,
    "LocalVMamba": LocalVMamba,
    "MambaVision": MambaVision,
    "SpatialMamba": SpatialMamba,
    "EfficientVMamba": EfficientVMamba,
    "GroupMamba": GroupMamba,
}


@dataclass(frozen=True)
class BackboneCase:
    """A backbone, by name so that another process can build it, and its input ``[B, 3, H, W]``."""

    family: str
    arch: str
    batch: int
    height: int
    width: int

    def build(self) -> nn.Module:
        """The backbone with random weights, the same ones every time."""
        torch.manual_seed(0)
        return _BACKBONES[self.family](self.arch)


CPU_CASES = (
    BackboneCase("QuadMamba", "small", 8, 224, 224),
    BackboneCase("QuadMamba", "tiny", 2, 224, 224),
    BackboneCase("VMamba", "tiny-s2l5", 1, 224, 224),
    BackboneCase("LocalVMamba", "tiny", 1, 224, 224),
    BackboneCase("MambaVision", "tiny", 1, 224, 224),
    BackboneCase("SpatialMamba", "tiny", 1, 224, 224),
    BackboneCase("EfficientVMamba", "tiny", 1, 224, 224),
    BackboneCase("GroupMamba", "tiny", 1, 224, 224),
)


def gpu_cases() -> list[BackboneCase]:
    """QuadMamba at the sizes papers report: classification, and detection at 800 x 1344."""
    sizes = ((128, 224, 224), (2, 800, 1344))
    return [
        BackboneCase("QuadMamba", arch, *size)
        for size in sizes
        for arch in ("tiny", "small", "base")
    ]


def benchmark_backbone(
    case: BackboneCase,
    backends: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    repetitions: int = 5,
    seconds: float = float("inf"),
    measure: Callable[..., Any] | None = None,
) -> list[dict[str, Any]]:
    """One row per implementation and mode.

    Args:
        case: The backbone and its input.
        backends: Names; by default those that can run here.
        dtype: 16 bits run under autocast.
        device: Where to run.
        repetitions: Timed calls of each.
        seconds: At most about this long for the timing, if that leaves three timed calls.
        measure: A :func:`~benchmarks.memory.fresh_process`, to measure peak memory.

    Returns:
        Rows as of :func:`benchmarks.scan_layers.benchmark_layer`, without ``roofline``. A
        training step is the forward pass and the gradient of every parameter; no optimizer.
    """
    where = torch.device(device)
    names = ["unfused", *(runnable_backends(device) if backends is None else backends)]
    step = _Step(case, dtype, where)
    rows = []
    for mode in MODES:
        functions = {name: step.function(name, mode) for name in names}
        peak = None
        if measure is not None:
            peak = functools.partial(_measured_peak, measure, case, dtype, device, mode)
        results = measurements(functions, repetitions, where, seconds / len(MODES), peak)
        for name, result in results.items():
            row = {
                "backbone": f"{case.family}-{case.arch}",
                "batch": case.batch,
                "height": case.height,
                "width": case.width,
                "dtype": str(dtype).removeprefix("torch."),
                "device": where.type,
                "mode": mode,
                "implementation": name,
                **result,
            }
            rows.append(row)
    return rows


class _Step:
    """Calls of one backbone; all implementations share its weights and its input."""

    def __init__(self, case: BackboneCase, dtype: torch.dtype, device: torch.device) -> None:
        self.model = case.build().to(device)
        self.image = torch.randn(case.batch, 3, case.height, case.width, device=device)
        self.dtype, self.device = dtype, device
        self.upstream: list[Tensor] = []

    def function(self, implementation: str, mode: str) -> Callable[[], object]:
        """One inference (evaluation mode) or training step by one implementation."""
        narrow = self.dtype in (torch.float16, torch.bfloat16)

        def forward() -> tuple[Tensor, ...]:
            autocast = torch.autocast(self.device.type, self.dtype, enabled=narrow)
            with autocast, _implemented(self.model, implementation):
                return self.model(self.image)

        def inference() -> object:
            self.model.eval()
            with torch.no_grad():
                return forward()

        def training() -> object:
            self.model.train()
            outputs = forward()
            parameters = list(self.model.parameters())
            if not self.upstream:  # not ones: a LayerNorm's outputs have a constant sum
                self.upstream = [torch.randn_like(y) for y in outputs]
            return torch.autograd.grad(outputs, parameters, self.upstream, allow_unused=True)

        return inference if mode == "inference" else training


def _implemented(model: nn.Module, name: str) -> contextlib.AbstractContextManager:
    return unfused(model) if name == "unfused" else use_backend(name)


def _measured_peak(
    measure: Callable[..., Any],
    case: BackboneCase,
    dtype: torch.dtype,
    device: str,
    mode: str,
    implementation: str,
) -> int:
    return measure(_peak, case, implementation, dtype, device, mode)


def _peak(
    case: BackboneCase, implementation: str, dtype: torch.dtype, device: str, mode: str
) -> int:
    where = torch.device(device)
    return peak_bytes(_Step(case, dtype, where).function(implementation, mode), where)


def breakdown(
    case: BackboneCase,
    backend: str,
    mode: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, float]:
    """Milliseconds of one call by :data:`PARTS`, by PyTorch's profiler, which adds its own.

    On a CPU, of all operators; on a GPU, of the kernels they launch.
    """
    where = torch.device(device)
    function = _Step(case, dtype, where).function(backend, mode)
    function()
    activities = [ProfilerActivity.CPU]
    if where.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        function()
    spent: Counter[str] = Counter()
    for event in profiler.events():
        if event.cpu_parent is None:
            _add_up(event, "rest", where.type, spent)
    return {part: spent[part] / 1e3 for part in PARTS}


def _add_up(event: Any, caller: str, device: str, spent: Counter[str]) -> None:
    """Add the time of an operator and of those it called."""
    part = caller
    if caller == "rest":
        part = next((p for prefix, p in _OPERATORS if event.name.startswith(prefix)), "rest")
    on_gpu = device == "cuda"
    spent[part] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    for child in event.cpu_children:
        _add_up(child, part, device, spent)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = "| backbone | B | H x W | dtype | mode | implementation "
    lines = [head + "| ms | CPU ms | peak MiB | faster (CPU) | memory |", "|" + "---|" * 11]
    for row in rows:
        cells = [
            row["backbone"],
            str(row["batch"]),
            f"{row['height']} x {row['width']}",
            row["dtype"],
            row["mode"],
            row["implementation"],
        ]
        if "error" in row:
            cells += [f"cannot run: {row['error']}", *[""] * 4]
        else:
            peak, ratio = row["peak_bytes"], row.get("memory_ratio")
            faster = f"{row['speedup']:.2f}x" if "speedup" in row else ""
            if faster and row["device"] == "cpu":
                faster += f" ({row['speedup_cpu']:.2f}x)"
            cells += [
                f"{row['median_ms']:.0f}",
                f"{row['cpu_ms']:.0f}",
                "" if peak is None else f"{peak / 2**20:.0f}",
                faster,
                "" if ratio is None else f"{ratio:.2f}x",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def breakdown_table(columns: dict[str, dict[str, float]]) -> str:
    """Several :func:`breakdown` by title, side by side, as Markdown."""
    lines = ["| ms | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for part in (*PARTS, "total"):
        cells = []
        for spent in columns.values():
            total = sum(spent.values())
            value = total if part == "total" else spent[part]
            cells.append(f"{value:.0f} ({value / max(total, 1e-9):.0%})")
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
