"""Draws published accuracy over counted FLOPs and over measured time, of all backbones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from mmquad.analysis.pictures.figure_files import write_figure

__all__ = ["METRICS", "AccuracyPoint", "draw_accuracy"]

METRICS = {
    "classification": "ImageNet-1k, top-1 (%)",
    "detection": "COCO, Mask R-CNN 1x, box AP",
    "segmentation": "ADE20K, UperNet 512, mIoU",
}
_FLOPS = {
    "classification": "GFLOPs, 224 x 224",
    "detection": "GFLOPs, Mask R-CNN, 1280 x 800",
    "segmentation": "GFLOPs, UperNet, 512 x 2048",
}
_TIMES = {
    "classification": "CPU ms, backbone, 224 x 224",
    "detection": "CPU ms, backbone, 512 x 512",
    "segmentation": "CPU ms, backbone, 512 x 512",
}

_COLORS = (0, 1, 2, 3, 4, 5, 6, 8, 9)  # of tab10, without its grey


@dataclass(frozen=True)
class AccuracyPoint:
    """One model.

    Args:
        family: Which line it belongs to.
        task: A key of :data:`METRICS`.
        accuracy: As published.
        flops: Multiply-adds and scan operations, counted.
        milliseconds: Of the backbone, measured.
        control: Of others: drawn in grey.
    """

    family: str
    task: str
    accuracy: float
    flops: float
    milliseconds: float
    control: bool = False


def draw_accuracy(points: Sequence[AccuracyPoint], path: str | Path, caption: str) -> Path:
    """Writes a PNG of two rows of panels: over FLOPs, over time; a column for each task.

    Args:
        points: The models; those of a family are connected in the order of their FLOPs or times.
        path: The PNG to write.
        caption: Where and when the times were measured, to write below.

    Raises:
        ValueError: There are no points.
    """
    if not points:
        raise ValueError("expected at least one model with an accuracy, FLOPs and a time")
    figure = Figure(figsize=(11, 7.2), dpi=100, layout="constrained")
    panels = figure.subplots(2, len(METRICS), squeeze=False)
    families = list(dict.fromkeys(p.family for p in points if not p.control))
    controls = list(dict.fromkeys(p.family for p in points if p.control))
    colors: dict[str, Any] = {
        f: colormaps["tab10"](_COLORS[i % len(_COLORS)]) for i, f in enumerate(families)
    }
    colors |= dict.fromkeys(controls, "0.6")
    markers = dict(zip(families, "ooooooooosssssssss", strict=False))
    markers |= dict(zip(controls, "v^<>DPX*", strict=False))
    handles: dict[str, Line2D] = {}
    for column, task in enumerate(METRICS):
        for row, labels in enumerate((_FLOPS, _TIMES)):
            panel = panels[row][column]
            for family in [*controls, *families]:
                line = sorted(
                    (p.milliseconds if row else p.flops / 1e9, p.accuracy)
                    for p in points
                    if p.family == family and p.task == task
                )
                if line:
                    width = 2.2 if family == "QuadMamba" else 1.0
                    style = {"color": colors[family], "marker": markers[family], "lw": width}
                    (handle,) = panel.plot(*zip(*line, strict=True), markersize=5, **style)
                    handles.setdefault(family, handle)
            panel.set_xscale("log")
            panel.set_xlabel(labels[task], fontsize=8)
            panel.grid(color="0.92", which="both")
            panel.tick_params(labelsize=7, which="both")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("")
            if row == 0:
                panel.set_title(METRICS[task], fontsize=9)
    order = [f for f in [*families, *controls] if f in handles]
    figure.legend(
        [handles[f] for f in order], order, loc="outside right upper", fontsize=8, frameon=False
    )
    figure.supxlabel(caption, fontsize=7, color="0.4")
    return write_figure(path, figure, colors=128)
