"""Draws how a search for scan directions went."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmquad.analysis.pictures.figure_files import write_figure
from mmquad.search import DirectionLog

__all__ = ["draw_direction_search"]

_COLUMNS = 5


def draw_direction_search(
    log: DirectionLog, path: str | Path, count: int = 4, title: str | None = None
) -> Path:
    """Draw one heat map per layer: candidates from top to bottom, iterations from left to right.

    The colour is the weight after the softmax over the even one, 1 / K: above 1 the network leans
    on a direction, below it turns away. Chosen directions are named in bold.

    Args:
        log: Of the search.
        path: The PNG to write.
        count: Directions chosen per layer.
        title: Title of the picture.

    Returns:
        ``path``.
    """
    relative = log.probability * len(log.directions)  # [T, layers, K]
    num_layers = relative.shape[1]
    columns = min(_COLUMNS, num_layers)
    rows = -(-num_layers // columns)
    # Even around 1, so that the middle of the colours is indifference.
    spread = max(float(np.abs(np.log(relative)).max()), 1e-3)
    lowest, highest = float(np.exp(-spread)), float(np.exp(spread))

    size = (1.2 + 2.1 * columns, 0.6 + 1.75 * rows)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    if title:
        figure.suptitle(title, fontsize=10)
    last = np.argsort(-log.alpha[-1], axis=-1, kind="stable")
    edges = _edges(log.iterations)
    mesh = None
    for layer, panel in enumerate(panels.flat):
        if layer >= num_layers:
            panel.set_visible(False)
            continue
        mesh = panel.pcolormesh(
            edges,
            np.arange(len(log.directions) + 1),
            np.log(relative[:, layer].T),
            cmap="RdBu_r",
            vmin=-spread,
            vmax=spread,
        )
        panel.invert_yaxis()
        panel.set_title(f"layer {layer}", fontsize=8)
        panel.set_yticks(np.arange(len(log.directions)) + 0.5, log.directions, fontsize=6)
        panel.tick_params(axis="x", labelsize=6)
        for k in last[layer, :count]:
            panel.get_yticklabels()[k].set_fontweight("bold")
    ticks = np.array([lowest, 1.0, highest])
    assert mesh is not None  # there is at least one layer
    bar = figure.colorbar(mesh, ax=panels, shrink=0.8, ticks=np.log(ticks))
    bar.ax.set_yticklabels([f"{tick:.2f}" for tick in ticks], fontsize=7)
    bar.set_label("weight / even weight", fontsize=8)
    figure.supxlabel("iteration", fontsize=8)

    return write_figure(path, figure)


def _edges(iterations: np.ndarray) -> np.ndarray:
    """Borders of the cells of the records, ``[T + 1]``: half-way between neighbours."""
    if len(iterations) == 1:
        return np.array([iterations[0] - 0.5, iterations[0] + 0.5])
    middles = (iterations[1:] + iterations[:-1]) / 2
    return np.concatenate([iterations[:1], middles, iterations[-1:]])
