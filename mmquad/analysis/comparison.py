"""Parameters and FLOPs of all models under one protocol, beside what their papers print.

FLOPs are those of :mod:`mmquad.analysis.complexity`: multiply-adds plus scan operations. Nothing is
computed: models are built and run on the meta device.

* classification: backbone, final norm and a linear layer of 1000 classes, 224 x 224; of the host's
  classifiers what their configs build.
* detection: Mask R-CNN at 1280 x 800, with its box head on 1000 proposals and its mask head on 100,
  as mmdet's ``get_flops`` runs them.
* segmentation: UperNet at 512 x 2048 without its auxiliary head.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmquad.analysis.complexity import Complexity, count_complexity
from mmquad.analysis.controls import control_name

__all__ = [
    "SHAPES",
    "Row",
    "arch_of",
    "build_shapes",
    "classifier_cost",
    "comparison_table",
    "config_cost",
    "difference",
]

SHAPES = {
    "classification": (1, 3, 224, 224),
    "detection": (1, 3, 800, 1280),
    "segmentation": (1, 3, 512, 2048),
}
PROPOSALS, MASKS = 1000, 100
LIMIT = 0.02


@dataclass(frozen=True)
class Row:
    """One model.

    Args:
        name: Backbone and architecture.
        cost: Counted here.
        paper: What is printed elsewhere: ``params`` in M and ``flops`` in G as text, ``source``.
    """

    name: str
    cost: Complexity
    paper: Mapping[str, str]


class Classifier(nn.Module):
    """A backbone's last map, averaged, or class token, and a linear layer."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, 1000)

    def forward(self, image: Tensor) -> Tensor:
        last = self.backbone(image)[-1]
        return self.head(last.mean((2, 3)) if last.ndim == 4 else last)


class ClassifierCost(nn.Module):
    """An mmpretrain classifier, logits included."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(image, mode="tensor")


class DetectorCost(nn.Module):
    """What a two-stage detector runs, on given numbers of proposals: no sizes depend on values."""

    detector: Any

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> list[Any]:
        maps = self.detector.extract_feat(image)
        heads = self.detector.roi_head
        outputs = [self.detector.rpn_head(maps)]
        channels = maps[0].shape[1]
        for extractor, head, count in (
            (heads.bbox_roi_extractor, heads.bbox_head, PROPOSALS),
            (heads.mask_roi_extractor, heads.mask_head, MASKS),
        ):
            size = extractor.roi_layers[0].output_size
            outputs.append(head(image.new_zeros(count, channels, *size)))
        return outputs


class SegmentorCost(nn.Module):
    """Backbone, neck and decode head."""

    segmentor: Any

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, image: Tensor) -> Tensor:
        return self.segmentor.decode_head(self.segmentor.extract_feat(image))


def classifier_cost(backbone: type, arch: str, **arguments: Any) -> Complexity:
    """Cost of the classifier with a named architecture, and ``arguments`` of the backbone."""
    with torch.device("meta"):
        built = backbone(arch, out_indices=(-1,), **arguments)
        model = Classifier(built, built.out_channels[-1])
    return count_complexity(model, SHAPES["classification"])


class _RatesOnTheCPU(TorchFunctionMode):
    """The hosts' backbones read their drop path rates from ``torch.linspace``."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def build_shapes(cfg: Config) -> nn.Module:
    """The model of a config on the meta device: shapes without values."""
    init_default_scope(cfg.default_scope)
    registry = import_module(f"{cfg.default_scope}.registry").MODELS
    with torch.device("meta"), _RatesOnTheCPU():
        return registry.build(copy.deepcopy(cfg.model))


def config_cost(cfg: Config) -> Complexity:
    """Cost of the model of a config; parameters include a segmentor's auxiliary head.

    Raises:
        ValueError: The config is of none of the three libraries.
    """
    wrappers = {
        "mmpretrain": (ClassifierCost, "classification"),
        "mmdet": (DetectorCost, "detection"),
        "mmseg": (SegmentorCost, "segmentation"),
    }
    if cfg.default_scope not in wrappers:
        names = ", ".join(wrappers)
        raise ValueError(f"expected a config of one of {names}, got {cfg.default_scope!r}")
    wrapper, task = wrappers[cfg.default_scope]
    return count_complexity(wrapper(build_shapes(cfg)), SHAPES[task])


def difference(counted: float, printed: str | None) -> str:
    """``+1.2 %`` of a printed figure, marked ``!`` over 2 %, and ``~`` where rounding explains it.

    Example:
        >>> difference(4.95, "4.9"), difference(7.15, "7"), difference(9.0, "8.0")
        ('+1.0 %', '+2.1 % ~', '+12.5 % !')
    """
    if printed is None:
        return ""
    value = float(printed)
    text = f"{100 * (counted / value - 1):+.1f} %"
    if abs(counted / value - 1) <= LIMIT:
        return text
    last_digit = 10.0 ** -len(printed.partition(".")[2])
    # Some papers cut digits off instead of rounding.
    return f"{text} ~" if abs(counted - value) < last_digit else f"{text} !"


def comparison_table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    header = ["model", "params (M)", "paper", "", "FLOPs (G)", "of these scan", "paper", ""]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        params, flops = row.cost.params / 1e6, row.cost.total / 1e9
        printed = (row.paper.get("params"), row.paper.get("flops"))
        lines.append(
            [
                row.name,
                f"{params:.2f}",
                printed[0] or "",
                difference(params, printed[0]),
                f"{flops:.2f}" if flops < 100 else f"{flops:.0f}",
                f"{row.cost.scan_ops / 1e9:.2f}",
                printed[1] or "",
                difference(flops, printed[1]),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def arch_of(path: Path, cfg: Config) -> str:
    """``VMamba tiny-s1l8``: the backbone of a config and its named architecture; ``Swin-T``."""
    control = control_name(path)
    if control is not None:
        return control
    backbone = cfg.model.backbone
    if not isinstance(backbone.arch, str):
        raise ValueError(f"{path} has no named architecture")
    return f"{backbone.type.removeprefix('mmquad.')} {backbone.arch}"
