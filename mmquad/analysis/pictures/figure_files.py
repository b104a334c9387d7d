"""Arranges panels on sheets, and writes pictures small enough to be kept with the code."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["arrange_panels", "write_figure", "write_small_png"]


def arrange_panels(panels: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Panels of one size in rows, on white: [H, W, 3] each.

    Raises:
        ValueError: There is no column.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, len(panels))
    filled = [*panels, *[np.full_like(panels[0], 255)] * (-len(panels) % columns)]
    rows = [np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)]
    return np.vstack(rows)


def write_small_png(path: str | Path, image: np.ndarray, colors: int) -> Path:
    """Writes an RGB image, uint8, [H, W, 3], as a PNG with a palette: a third of the bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(image).quantize(colors, dither=Image.Dither.NONE)
    small.save(path, format="PNG", optimize=True)
    return path


def write_figure(path: str | Path, figure: "Figure", colors: int | None = None) -> Path:
    """Writes a matplotlib figure as a PNG; lines need a few ``colors`` only, colour maps all."""
    # Sheets of panels need no matplotlib, and hooks draw them: it takes a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    if colors is not None:
        canvas.draw()
        return write_small_png(path, np.asarray(canvas.buffer_rgba())[..., :3], colors)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path
