"""Published accuracies beside what was counted and measured here, model by model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmquad import backbones
from mmquad.analysis.controls import control_name
from mmquad.analysis.pictures.accuracy import AccuracyPoint
from mmquad.analysis.zoo import read_metafiles

__all__ = ["accuracy_points", "model_name", "published"]

# Task, metric, size of the image that times are of, and how names of the configs to take begin:
# not those of detectors and segmentors with other heads.
_TASKS = {
    "mmpretrain": ("classification", "Top 1 Accuracy", "224", ""),
    "mmdet": ("detection", "box AP", "512", "mask-rcnn_"),
    "mmseg": ("segmentation", "mIoU", "512", "upernet_"),
}


def model_name(config: str | Path) -> str | None:
    """``VMamba tiny-s1l8``, ``Swin-T``: the model of a config, read from its text.

    Reading a config with all that it inherits takes half a second, and there are hundreds.

    Returns:
        None for a config that inherits its arch, as variants of others do.
    """
    config = Path(config)
    if control := control_name(config):
        return control
    arch = re.search(r'\barch="([^"]+)"', config.read_text())
    # localvmamba is in no vmamba's name, but the other way round.
    names = sorted((c for c in backbones.__all__ if c.lower() in config.stem), key=len)
    return f"{names[-1]} {arch[1]}" if arch and names else None


def published(root: str | Path) -> dict[tuple[str, str], float]:
    """Accuracies by task and name of the model (``VMamba tiny-s1l8``, ``Swin-T``).

    Of several configs of a model that have figures the first of the metafile counts; of detectors
    those of 12 epochs.

    Args:
        root: The repository.
    """
    root = Path(root)
    found: dict[tuple[str, str], float] = {}
    for content in read_metafiles(root):
        for model in content["Models"]:
            path = root / model["Config"]
            task, metric, _, prefix = _TASKS[path.parts[-3]]
            values = {k: v for r in model.get("Results", []) for k, v in r["Metrics"].items()}
            other_schedule = task == "detection" and "_1x_" not in path.name
            if metric not in values or other_schedule or not path.name.startswith(prefix):
                continue
            name = model_name(path)
            if name is None:
                continue
            found.setdefault((task, name), float(values[metric]))
    papers = yaml.safe_load((root / "configs" / "papers.yml").read_text())
    for name, row in papers["classification"].items():
        if "top1" in row:
            found.setdefault(("classification", name), float(row["top1"]))
    return found


def accuracy_points(
    root: str | Path,
    counts: Mapping[str, Mapping[str, Mapping[str, Any]]],
    times: Mapping[str, Mapping[str, float]],
) -> list[AccuracyPoint]:
    """All models of which accuracy, FLOPs and time are known.

    Args:
        root: The repository.
        counts: ``flops`` by task and name: docs/comparison.json.
        times: Milliseconds by size (``"224"``, ``"512"``) and name: ``ms`` of docs/cpu_times.json.
    """
    sizes = {task: size for task, _, size, _ in _TASKS.values()}
    points = []
    for (task, name), accuracy in published(root).items():
        counted, measured = counts[task].get(name), times[sizes[task]].get(name)
        if counted is None or measured is None:
            continue
        is_control = " " not in name
        family = name.split("-")[0] if is_control else name.split()[0]
        points.append(AccuracyPoint(family, task, accuracy, counted["flops"], measured, is_control))
    return points
