"""A picture of time against sequence length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["plot_lengths"]


def plot_lengths(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Draw median milliseconds over L, both logarithmic, one line per implementation.

    Args:
        rows: Of :func:`benchmarks.scan_layers.benchmark_layer`, at several lengths.
        path: Image to write.
        title: What was measured, and on what.
    """
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    figure = Figure(figsize=(5 * len(modes), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for axis, mode in zip(axes, modes, strict=True):
        for name in names:
            points = sorted(
                (row["L"], row["median_ms"])
                for row in rows
                if (row["mode"], row["implementation"]) == (mode, name) and "error" not in row
            )
            axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.set(title=mode, xlabel="tokens L", xscale="log", yscale="log")
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_ylabel("milliseconds (median)")
    axes[0].legend()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
