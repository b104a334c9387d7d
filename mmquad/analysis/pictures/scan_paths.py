"""Draws the orders in which scans read a grid as paths over it (QuadMamba, fig. 1).

And, for Spatial-Mamba, from which neighbours a token gets states besides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mmquad.analysis.pictures.figure_files import write_figure
from mmquad.layers.spatial_mixer import DILATIONS
from mmquad.scans import (
    AtrousScan,
    CrossScan,
    FixedScan,
    LocalScan,
    QuadScan,
    RasterScan,
    SnakeScan,
)

__all__ = ["EXAMPLE_DILATIONS", "EXAMPLE_SCANS", "draw_scan_paths", "neighbours", "scan_paths"]

Drawable = FixedScan | QuadScan | AtrousScan

EXAMPLE_SCANS: dict[str, Drawable] = {
    "cross (VMamba)": CrossScan(),
    "raster (MambaVision)": RasterScan(),
    "snake (PlainMamba)": SnakeScan(),
    "local (LocalMamba)": LocalScan(("h", "v_flip", "w2", "w3")),
    "atrous (EfficientVMamba)": AtrousScan(),
    "quad (QuadMamba)": QuadScan(),
    "quad, shifted": QuadScan(shift=(1, 1)),
}
"""One of every kind, by the name to draw beside it."""

EXAMPLE_DILATIONS = {"fusion (Spatial-Mamba)": DILATIONS}
"""Distances of the neighbours whose states are added, by the name to draw beside them."""

_SUBGRIDS = tuple(f"{r} rows, {c} columns" for c in ("even", "odd") for r in ("even", "odd"))
_QUARTERS = ("top left", "top right", "bottom left", "bottom right")


def scan_paths(scan: Drawable, height: int, width: int) -> dict[str, np.ndarray]:
    """The sequences of a scan by name: tokens in the order they are read, int, [P].

    A quadtree scan has one for each window that can be chosen; its second direction is the reverse.
    An atrous scan has parts of the grid. Positions that hold no token are -1.

    Raises:
        ValueError: The scan reads other tokens than those of the grid (a class token), or is a
            quadtree of three levels, whose sequences are too many.
    """
    device = torch.device("cpu")
    if isinstance(scan, QuadScan):
        if scan.levels != 2:
            raise ValueError(f"expected a quadtree of two levels, got {scan}")
        tables = scan.tables(height, width, device)
        coarse, fine = tables.order[0, 0], tables.order[1, 0]
        window = tables.window[coarse]
        quarters = scan.windows == len(_QUARTERS)
        names = _QUARTERS if quarters else [f"window {q}" for q in range(scan.windows)]
        return {
            f"{name} chosen": torch.where(window == q, fine, coarse).numpy()
            for q, name in enumerate(names)
        }
    if scan.num_tokens(height, width) != height * width:
        raise ValueError(
            f"expected a scan of the {height * width} tokens of the grid, got {scan} with "
            f"{scan.num_tokens(height, width)}; draw it without class tokens"
        )
    orders = scan.orders(height, width, device)
    numbered = [f"direction {k + 1}" for k in range(len(orders))]
    titles = _SUBGRIDS if isinstance(scan, AtrousScan) else getattr(scan, "names", numbered)
    return {name: order.numpy() for name, order in zip(titles, orders, strict=True)}


def neighbours(row: int, column: int, dilation: int, height: int, width: int) -> np.ndarray:
    """The nine places ``[9, 2]`` (row, column) whose states reach a token, one of them its own.

    Beyond the edge they are the nearest of the map (Spatial-Mamba's padding).
    """
    rows = np.clip(row + dilation * np.repeat([-1, 0, 1], 3), 0, height - 1)
    columns = np.clip(column + dilation * np.tile([-1, 0, 1], 3), 0, width - 1)
    return np.stack([rows, columns], axis=1)


def draw_scan_paths(
    scans: Mapping[str, Drawable],
    path: str | Path,
    height: int = 8,
    width: int = 8,
    dilations: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """Draws each scan as a row of panels, one per sequence, to a PNG.

    A path runs from the dot (dark) to the arrow (light); thin dotted lines are jumps to a token
    that is no neighbour, in a sub-grid of every second token to one further than these.

    Args:
        scans: The scans, by the name to write beside them.
        path: The PNG to write.
        height: Rows H of the grid.
        width: Columns W of the grid.
        dilations: Further rows, by the name to write beside them: the neighbours at each distance
            of a token in the middle.

    Returns:
        `path`.

    Raises:
        ValueError: The grid is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"expected a grid of at least 1 x 1, got {height} x {width}")
    rows = {name: scan_paths(scan, height, width) for name, scan in scans.items()}
    dilations = dilations or {}
    columns = max(map(len, (*rows.values(), *dilations.values())))
    # The shorter side of a panel leaves room for the name of the row, the longer one grows with it.
    sides = [1.75 * min(max(ratio, 1), 2) for ratio in (width / height, height / width)]
    count = len(rows) + len(dilations)
    size = (sides[0] * columns, (sides[1] + 0.2) * count)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(count, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for row, name in zip(panels, (*rows, *dilations), strict=True):
        place = {"transform": row[0].transAxes, "rotation": 90, "ha": "right", "va": "center"}
        row[0].text(-0.06, 0.5, name, fontsize=9, weight="bold", **place)
    for row, sequences in zip(panels, rows.values(), strict=False):
        for panel, (title, order) in zip(row, sequences.items(), strict=False):
            _draw_path(panel, order, height, width)
            panel.set_title(title, fontsize=8, pad=3)
    for row, distances in zip(panels[len(rows) :], dilations.values(), strict=True):
        for panel, distance in zip(row, distances, strict=False):
            _draw_neighbours(panel, distance, height, width)
            panel.set_title(f"dilation {distance}", fontsize=8, pad=3)
    return write_figure(path, figure, colors=64)


def _draw_path(panel: Axes, order: np.ndarray, height: int, width: int) -> None:
    tokens = order[order >= 0]
    points = np.stack([tokens % width, tokens // width], axis=1).astype(float)  # [L, 2]: x, y
    steps = np.stack([points[:-1], points[1:]], axis=1)
    lengths = np.abs(steps[:, 1] - steps[:, 0]).max(axis=1)
    spacing = lengths.min(initial=width + height)  # of the tokens: 2 in a sub-grid
    is_jump = lengths > spacing
    # up to 0.85: the last, light yellows are lost on white
    colors = colormaps["plasma"](np.linspace(0, 0.85, max(len(steps), 1)))

    _draw_grid(panel, height, width)
    jumps = LineCollection(
        list(steps[is_jump]), colors=colors[is_jump], linewidths=0.7, linestyles=(0, (1.5, 1.5))
    )
    panel.add_collection(jumps)
    moves = LineCollection(
        list(steps[~is_jump]), colors=colors[~is_jump], linewidths=2.0, capstyle="round"
    )
    panel.add_collection(moves)
    if spacing > 1:
        panel.scatter(points[1:-1, 0], points[1:-1, 1], color=colors[:-1], s=9, zorder=2)
    panel.plot(*points[0], "o", color=colors[0], markersize=5)
    if len(points) > 1:
        x, y = points[-1]
        dx, dy = points[-1] - points[-2]
        length = max(float(np.hypot(dx, dy)), 1e-9)
        start = (x - 0.5 * dx / length, y - 0.5 * dy / length)
        arrow = {"arrowstyle": "-|>", "color": colors[-1], "lw": 2.0, "shrinkA": 0, "shrinkB": 0}
        panel.annotate(
            "", xy=(x + 0.25 * dx / length, y + 0.25 * dy / length), xytext=start, arrowprops=arrow
        )


def _draw_neighbours(panel: Axes, dilation: int, height: int, width: int) -> None:
    _draw_grid(panel, height, width)
    row, column = (height - 1) // 2, (width - 1) // 2
    color = colormaps["plasma"](0.4)
    for r, c in neighbours(row, column, dilation, height, width):
        if (r, c) != (row, column):
            panel.plot([c, column], [r, row], color=color, linewidth=0.7)
            panel.plot(c, r, "s", color=color, markersize=5)
    panel.plot(column, row, "o", color=colormaps["plasma"](0.85), markersize=7)


def _draw_grid(panel: Axes, height: int, width: int) -> None:
    panel.set(xlim=(-0.6, width - 0.4), ylim=(height - 0.4, -0.6), aspect="equal")
    for x in np.arange(-0.5, width):
        panel.plot([x, x], [-0.5, height - 0.5], color="0.9", linewidth=0.5)
    for y in np.arange(-0.5, height):
        panel.plot([-0.5, width - 0.5], [y, y], color="0.9", linewidth=0.5)
