"""The classes of objects on generated scenes, and what their outlines are."""

import numpy as np

SHAPE_CLASSES = ("disc", "rectangle", "triangle", "star")
"""Names of the classes; an instance's label is an index into this tuple."""

SHAPE_PALETTE = ((220, 50, 47), (38, 139, 210), (133, 153, 0), (211, 54, 190))
"""RGB colours to *draw results* with, one per class. Objects in scenes have any colour."""


def shape_outline(name: str) -> np.ndarray:
    """Outline of a class, centred on the origin and of area 1.

    Args:
        name: One of `SHAPE_CLASSES`.

    Returns:
        Vertices (x, y), float64, [N, 2].

    Example:
        >>> shape_outline("triangle").shape
        (3, 2)
    """
    if name == "disc":
        points = _regular_polygon(64)
    elif name == "rectangle":
        points = _regular_polygon(4)
    elif name == "triangle":
        points = _regular_polygon(3)
    elif name == "star":
        points = _regular_polygon(10)
        points[1::2] *= 0.45
    else:
        raise ValueError(f"expected one of {SHAPE_CLASSES}, got {name=}")
    x, y = points.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return points / np.sqrt(area)


def _regular_polygon(num_vertices: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(num_vertices) / num_vertices
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
