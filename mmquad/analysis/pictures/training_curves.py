"""Reads the scalars that mmengine logs during training and draws them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmquad.analysis.pictures.figure_files import write_figure

Records = dict[int, dict[str, float]]


@dataclass
class TrainingLog:
    """The scalars of one training.

    Args:
        train: Logged training values (`loss`, `lr`, ...) by iteration.
        val: Metrics by validation step: the epoch, or the iteration of iteration-based training.
    """

    train: Records = field(default_factory=dict)
    val: Records = field(default_factory=dict)

    @property
    def val_step_name(self) -> str:
        """What `val` counts: `epoch` or `iteration`."""
        epochs = [record["epoch"] for record in self.train.values() if "epoch" in record]
        counts_epochs = bool(epochs) and max(self.val, default=0) <= max(epochs)
        return "epoch" if counts_epochs else "iteration"

    def metric_names(self) -> list[str]:
        """Names of all metrics of the validations, sorted."""
        timings = {"step", "time", "data_time"}
        return sorted({key for record in self.val.values() for key in record} - timings)

    def series(self, name: str, *, val: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one scalar.

        Args:
            name: Key of the scalar, such as `loss` or `coco/bbox_mAP`.
            val: Whether to look at the validations instead of the training.

        Returns:
            Steps, int, [N], ascending, and values, float, [N].
        """
        records = self.val if val else self.train
        steps = [step for step in sorted(records) if name in records[step]]
        return np.array(steps, dtype=int), np.array([records[s][name] for s in steps], dtype=float)


def read_training_log(work_dir: str | Path, *, latest_only: bool = False) -> TrainingLog:
    """Reads `<work_dir>/<timestamp>/vis_data/scalars.json` of the runs of a training.

    The runs are joined in the order of their timestamps: from the first step of a run on, what
    earlier runs logged is dropped. A resumed training so reads as one without interruption, and a
    training that was started over as its last run.

    Args:
        work_dir: The work directory of the training.
        latest_only: Whether to read only the latest run that logged anything.

    Returns:
        The log.

    Raises:
        FileNotFoundError: No run in `work_dir` has logged a scalar.
    """
    paths = sorted(Path(work_dir).glob("*/vis_data/scalars.json"), key=lambda p: p.parts[-3])
    runs = [log for log in map(_read_run, paths) if log.train or log.val]
    if not runs:
        raise FileNotFoundError(
            f"expected <timestamp>/vis_data/scalars.json with at least one line in {work_dir}, "
            f"got {len(paths)} such files, none with a line. Is this the work_dir of a training?"
        )
    joined = TrainingLog()
    for run in runs[-1:] if latest_only else runs:
        joined.train = _continue(joined.train, run.train)
        joined.val = _continue(joined.val, run.val)
    return joined


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average; at the ends, over the part of the window that exists.

    Args:
        values: [N].
        window: Number of values to average over.

    Returns:
        Float, [N].

    Example:
        >>> smooth(np.array([0.0, 3.0, 6.0]), window=3)
        array([1.5, 3. , 4.5])
    """
    half = window // 2
    totals = np.concatenate([[0.0], np.cumsum(values)])
    indices = np.arange(len(values))
    starts = np.maximum(indices - half, 0)
    stops = np.minimum(indices + half + 1, len(values))
    return (totals[stops] - totals[starts]) / (stops - starts)


def draw_training_curves(
    log: TrainingLog,
    path: str | Path,
    metrics: Sequence[str] = ("coco/bbox_mAP", "coco/segm_mAP"),
    losses: Sequence[str] = ("loss",),
    title: str | None = None,
) -> Path:
    """Draws the losses (raw faint, smoothed strong) and the validation metrics to a PNG.

    Args:
        log: The log, see `read_training_log`.
        path: The PNG to write.
        metrics: Keys of the metrics, such as `mIoU` or `accuracy/top1`. Empty for no metric panel.
        losses: Keys of the training losses.
        title: Title of the picture.

    Returns:
        `path`.

    Raises:
        ValueError: A key is not in the log.
    """
    logged = {key for record in log.train.values() for key in record}
    _require(losses, logged, "training")
    _require(metrics, log.metric_names(), "validation")

    num_panels = 2 if metrics else 1
    figure = Figure(figsize=(5.4 * num_panels, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, num_panels, squeeze=False)[0]
    if title:
        figure.suptitle(title)
    _draw_losses(panels[0], log, losses)
    if metrics:
        _draw_metrics(panels[1], log, metrics)
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)

    return write_figure(path, figure)


def _draw_losses(panel: Axes, log: TrainingLog, losses: Sequence[str]) -> None:
    for index, name in enumerate(losses):
        steps, values = log.series(name)
        color = f"C{index}"
        panel.plot(steps, values, color=color, alpha=0.25, linewidth=1)
        panel.plot(steps, smooth(values, max(5, len(values) // 25)), color=color, label=name)
    panel.set(xlabel="iteration", ylabel="training loss")


def _draw_metrics(panel: Axes, log: TrainingLog, metrics: Sequence[str]) -> None:
    for index, name in enumerate(metrics):
        steps, values = log.series(name, val=True)
        label = f"{name}: {values[-1]:#.3g}"
        panel.plot(steps, values, color=f"C{index}", marker="o", markersize=3, label=label)
    panel.set(xlabel=log.val_step_name, ylabel="validation metric")
    highest = max(float(np.nanmax(log.series(name, val=True)[1])) for name in metrics)
    panel.set_ylim(0, 1.15 * highest if highest > 0 else 1)
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _read_run(path: Path) -> TrainingLog:
    log = TrainingLog()
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # a run that was killed may leave half a line
            raise ValueError(
                f"expected one JSON object per line, got {path}:{number}: {line!r}"
            ) from error
        # only training lines carry the loss; validations carry metrics and the step
        is_train = "loss" in record and "iter" in record
        records = log.train if is_train else log.val
        records[record["iter"] if is_train else record["step"]] = record
    return log


def _continue(earlier: Records, later: Records) -> Records:
    if not later:
        return earlier
    start = min(later)
    return {step: record for step, record in earlier.items() if step < start} | later


def _require(names: Iterable[str], available: Iterable[str], part: str) -> None:
    missing = sorted(set(names) - set(available))
    if missing:
        raise ValueError(f"expected keys of the {part} log, {sorted(available)}, got {missing}")
