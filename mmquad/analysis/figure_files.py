"""Writes pictures small enough to be kept with the code."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["write_figure", "write_small_png"]


def write_small_png(path: str | Path, image: np.ndarray, colors: int = 64) -> Path:
    """Writes an RGB image, uint8, [H, W, 3], as a PNG with a palette: a third of the bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(image).quantize(colors, dither=Image.Dither.NONE)
    small.save(path, format="PNG", optimize=True)
    return path


def write_figure(path: str | Path, figure: Figure, colors: int = 64) -> Path:
    """Writes a matplotlib figure with :func:`write_small_png`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return write_small_png(path, np.asarray(canvas.buffer_rgba())[..., :3], colors)
