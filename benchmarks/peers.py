"""Backbones of this package beside those of others, on the same images in the same run."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from benchmarks.timing import measurements
from mmquad import backbones
from mmquad.analysis.controls import control_name
from mmquad.compat import load_config

__all__ = ["BASELINE", "MODES", "PEERS", "all_names", "build", "measure_peers", "peers_table"]

CONFIGS = Path(__file__).parents[1] / "configs"
BASELINE = "Swin-T"
PEERS = (
    "Swin-T",
    "ConvNeXt-T",
    "QuadMamba tiny",
    "QuadMamba small",
    "VMamba tiny-s1l8",
    "LocalVMamba tiny",
)
MODES = ("float32", "bfloat16", "compiled", "training", "training bfloat16")


def build(name: str) -> nn.Module:
    """A backbone with random weights and maps of all its stages, by the name that tables give it.

    ``QuadMamba small`` is a family of this package and its arch, ``Swin-T`` one of the controls,
    as its detector's config has it.

    Raises:
        KeyError: There is none of that name.
    """
    torch.manual_seed(0)
    family, _, arch = name.partition(" ")
    if arch:
        return getattr(backbones, family)(arch)
    for path in sorted(CONFIGS.glob("mmdet/controls/*.py")):
        if control_name(path) == name:
            cfg = load_config(str(path))
            init_default_scope("mmdet")
            from mmdet.registry import MODELS

            settings = copy.deepcopy(cfg.model.backbone)
            settings.pop("init_cfg", None)
            if "Pyramid" in settings.type:  # asks for it, also where nothing is loaded
                settings.init_cfg = {}
            return MODELS.build(settings)
    raise KeyError(f"there is no backbone called {name!r}")


def all_names(archs: dict[str, Iterable[str]], controls: Sequence[str]) -> list[str]:
    """Names of all named archs of the families given, and of controls."""
    return [f"{family} {arch}" for family, named in archs.items() for arch in named] + [*controls]


def measure_peers(
    names: Sequence[str],
    mode: str,
    batch: int,
    size: int,
    repetitions: int,
    seconds: float = float("inf"),
) -> dict[str, float]:
    """Milliseconds of one call of each backbone, medians, timed in turn.

    Args:
        names: See :func:`build`.
        mode: One of :data:`MODES`. Inference in float32, under autocast, or compiled; a training
            step is the forward pass and the gradient of every parameter, without an optimizer.
        batch: Images.
        size: Their height and width.
        repetitions: Timed calls of each.
        seconds: At most about this long, if that leaves three timed calls of each.

    Returns:
        NaN for those that raise.
    """
    image = torch.randn(batch, 3, size, size)
    calls = {name: _call(build(name), image, mode) for name in names}
    # What a compiler cannot do with one of them must not end the run.
    rows = measurements(calls, repetitions, torch.device("cpu"), seconds)
    return {name: row.get("median_ms", math.nan) for name, row in rows.items()}


def _call(model: nn.Module, image: Tensor, mode: str) -> Callable[[], object]:
    narrow = "bfloat16" in mode
    run: Callable[..., Any] = torch.compile(model) if mode == "compiled" else model

    def forward() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            return run(image)

    def inference() -> object:
        with torch.no_grad():
            return forward()

    upstream: list[Tensor] = []

    def training() -> object:
        outputs = [y for y in forward() if y.requires_grad]
        if not upstream:  # not ones: a LayerNorm's outputs have a constant sum
            upstream.extend(torch.randn_like(y) for y in outputs)
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.autograd.grad(outputs, parameters, upstream, allow_unused=True)

    model.train(mode.startswith("training"))
    return training if mode.startswith("training") else inference


def peers_table(results: dict[tuple[str, int], dict[str, float]]) -> str:
    """Markdown: a row for each backbone, a column for each mode and batch; ratios to the baseline.

    Args:
        results: Milliseconds by name, by mode and batch.
    """
    columns = [f"{mode}, B = {batch}" for mode, batch in results]
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [_cell(times[name], times[BASELINE], name) for times in results.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(time: float, baseline: float, name: str) -> str:
    if math.isnan(time):
        return "fails"
    if name == BASELINE or math.isnan(baseline):
        return f"{time:.0f} ms"
    return f"{time / baseline:.2f} ({time:.0f} ms)"
