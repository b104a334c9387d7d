"""Binary masks in the two forms of COCO annotations: polygons and run lengths."""

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines a mask by polygons that follow the borders of its pixels.

    Unlike contours through pixel centres, which lose half a pixel on every side, these polygons
    rasterise to exactly `mask`, in pycocotools as in mmdet. COCO polygons have no holes, so a part
    with a hole is cut in two through the hole.

    Args:
        mask: Bool, [H, W].

    Returns:
        One polygon per part, each `[x0, y0, x1, y1, ...]` with at least 4 points, in the
        coordinates of COCO: the pixel in row i, column j covers [j, j + 1] x [i, i + 1].

    Example:
        >>> mask_to_polygons(np.ones((2, 3), dtype=bool))
        [[0.0, 0.0, 0.0, 2.0, 3.0, 2.0, 3.0, 0.0]]
    """
    polygons: list[list[float]] = []
    # 4-connected: parts that only touch at a corner would make a polygon that crosses itself
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    pending = [parts == index for index in range(1, count)]
    while pending:
        part = pending.pop(0)
        outline, hole = _trace(part)
        if hole is None:
            polygons.append(outline.reshape(-1).tolist())
        else:
            left, right = part.copy(), part.copy()
            left[:, hole:] = False
            right[:, :hole] = False
            for half in (left, right):
                count, pieces = cv2.connectedComponents(half.astype(np.uint8), connectivity=4)
                pending += [pieces == index for index in range(1, count)]
    return polygons


def mask_to_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """Encodes a mask as COCO's uncompressed run lengths.

    Args:
        mask: Bool, [H, W].

    Returns:
        `counts`: lengths of the runs of 0 and 1 in turn, beginning with 0, down the columns;
        `size`: [H, W].

    Example:
        >>> mask_to_rle(np.array([[False, True], [True, True]]))
        {'counts': [1, 3], 'size': [2, 2]}
    """
    H, W = mask.shape
    pixels = np.concatenate([[False], mask.T.reshape(-1), [not mask[-1, -1]]])
    ends = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(ends, prepend=0).tolist()
    return {"counts": counts, "size": [H, W]}


def mask_to_box(mask: np.ndarray) -> list[float]:
    """The box [x, y, width, height] around the pixels of a bool mask, [H, W], not all False."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("expected a mask with at least one True pixel, got none")
    x, y = columns[0], rows[0]
    return [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def _trace(part: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Traces the outer border of a 4-connected mask.

    Returns:
        The border, float64, [N, 2], and a column that cuts a hole of the mask (None if there is
        no hole).
    """
    H, W = part.shape
    # On a grid of half pixels a pixel is a point at odd coordinates; growing it by one step makes
    # it a closed square with its borders at even coordinates, where the contour then runs.
    grid = np.zeros((2 * H + 1, 2 * W + 1), dtype=np.uint8)
    grid[1::2, 1::2] = part
    grid = cv2.dilate(grid, np.ones((3, 3), np.uint8))
    contours, hierarchy = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    is_hole = hierarchy[0, :, 3] >= 0
    outline = next(c for c, inner in zip(contours, is_hole, strict=True) if not inner)
    if not is_hole.any():
        return outline[:, 0] / 2, None
    hole = contours[int(np.flatnonzero(is_hole)[0])][:, 0, 0] / 2
    return outline[:, 0] / 2, int((hole.min() + hole.max()) // 2)
