"""Draws the orders in which scans read a grid as paths over it (QuadMamba, fig. 1)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mmquad.analysis.pictures.figure_files import write_figure
from mmquad.scans import CrossScan, FixedScan, LocalScan, QuadScan, RasterScan, SnakeScan

__all__ = ["EXAMPLE_SCANS", "draw_scan_paths", "scan_paths"]

EXAMPLE_SCANS: dict[str, FixedScan | QuadScan] = {
    "cross (VMamba)": CrossScan(),
    "raster (MambaVision)": RasterScan(),
    "snake (PlainMamba)": SnakeScan(),
    "local (LocalMamba)": LocalScan(("h", "v_flip", "w2", "w3")),
    "quad (QuadMamba)": QuadScan(),
    "quad, shifted": QuadScan(shift=(1, 1)),
}
"""One of every kind, by the name to draw beside it."""

_QUARTERS = ("top left", "top right", "bottom left", "bottom right")


def scan_paths(scan: FixedScan | QuadScan, height: int, width: int) -> dict[str, np.ndarray]:
    """The sequences of a scan by name: tokens in the order they are read, int, [P].

    A quadtree scan has one for each window that can be chosen; its second direction is the reverse.
    Positions that hold no token are -1.

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
    names = getattr(scan, "names", [f"direction {k + 1}" for k in range(len(orders))])
    return {name: order.numpy() for name, order in zip(names, orders, strict=True)}


def draw_scan_paths(
    scans: Mapping[str, FixedScan | QuadScan], path: str | Path, height: int = 8, width: int = 8
) -> Path:
    """Draws each scan as a row of panels, one per sequence, to a PNG.

    A path runs from the dot (dark) to the arrow (light); thin dotted lines are jumps to a token
    that is no neighbour.

    Args:
        scans: The scans, by the name to write beside them.
        path: The PNG to write.
        height: Rows H of the grid.
        width: Columns W of the grid.

    Returns:
        `path`.

    Raises:
        ValueError: The grid is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"expected a grid of at least 1 x 1, got {height} x {width}")
    rows = {name: scan_paths(scan, height, width) for name, scan in scans.items()}
    columns = max(map(len, rows.values()))
    # The shorter side of a panel leaves room for the name of the row, the longer one grows with it.
    sides = [1.75 * min(max(ratio, 1), 2) for ratio in (width / height, height / width)]
    size = (sides[0] * columns, (sides[1] + 0.2) * len(rows))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for row, (name, sequences) in zip(panels, rows.items(), strict=True):
        for panel, (title, order) in zip(row, sequences.items(), strict=False):
            _draw_path(panel, order, height, width)
            panel.set_title(title, fontsize=8, pad=3)
        place = {"transform": row[0].transAxes, "rotation": 90, "ha": "right", "va": "center"}
        row[0].text(-0.06, 0.5, name, fontsize=9, weight="bold", **place)
    return write_figure(path, figure, colors=64)


def _draw_path(panel: Axes, order: np.ndarray, height: int, width: int) -> None:
    tokens = order[order >= 0]
    points = np.stack([tokens % width, tokens // width], axis=1).astype(float)  # [L, 2]: x, y
    steps = np.stack([points[:-1], points[1:]], axis=1)
    is_jump = np.abs(steps[:, 1] - steps[:, 0]).max(axis=1) > 1
    # up to 0.85: the last, light yellows are lost on white
    colors = colormaps["plasma"](np.linspace(0, 0.85, max(len(steps), 1)))

    panel.set(xlim=(-0.6, width - 0.4), ylim=(height - 0.4, -0.6), aspect="equal")
    for x in np.arange(-0.5, width):
        panel.plot([x, x], [-0.5, height - 0.5], color="0.9", linewidth=0.5)
    for y in np.arange(-0.5, height):
        panel.plot([-0.5, width - 0.5], [y, y], color="0.9", linewidth=0.5)
    jumps = LineCollection(
        list(steps[is_jump]), colors=colors[is_jump], linewidths=0.7, linestyles=(0, (1.5, 1.5))
    )
    panel.add_collection(jumps)
    moves = LineCollection(
        list(steps[~is_jump]), colors=colors[~is_jump], linewidths=2.0, capstyle="round"
    )
    panel.add_collection(moves)
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
