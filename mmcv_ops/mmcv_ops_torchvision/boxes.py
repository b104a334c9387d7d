"""Overlaps of boxes, and the ways to thin out boxes by them.

Boxes are (x1, y1, x2, y2). `offset` is 0, or 1 where coordinates name pixels that both belong to
the box, so that its width is x2 - x1 + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kernels import operator, torchvision_kernel

__all__ = ["bbox_overlaps", "nms", "nms_match", "softnms"]

# Up to this many boxes, a table of all overlaps is faster than a row of it at a time.
TABLE_SIZE = 4096
# Overlaps that are computed at once: what they are made of fits the second-level cache.
BLOCK = 65536
# Boxes from which on it pays to thin them out apart from others.
GROUP_SIZE = 128
# Up to this many, a table of all pairs is the fastest way to match boxes.
MATCH_SIZE = 400
NAIVE, LINEAR, GAUSSIAN = 0, 1, 2

Array = np.ndarray[Any, Any]


def _single(number: float) -> float:
    """`number` rounded to float32: mmcv compares overlaps with a threshold of that precision."""
    return float(np.float32(number))


@operator
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4].
        scores: [N].
        iou_threshold: A box goes if it overlaps a kept one by more than this.
        offset: 0 or 1.

    Returns:
        Indices of the boxes kept, by falling score. [K] int64
    """
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()
    # Among equal scores, mmcv's order is that of torch's unstable sort. torchvision sorts stably,
    # so it is given the boxes in order already, with their ranks for scores.
    order = scores.sort(0, descending=True).indices
    ranks = torch.arange(len(order), 0, -1, dtype=boxes.dtype, device=boxes.device)
    boxes = boxes[order]
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return order[torchvision_kernel("nms", boxes)(boxes, ranks, _single(iou_threshold))]


@operator
def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Intersection over union (`mode` 0) or over the first box's area (`mode` 1).

    Args:
        bboxes1: [M, 4].
        bboxes2: [N, 4]; [M, 4] if `aligned`.
        ious: Written: [M, N], or [M] if `aligned`.
        mode: 0 or 1.
        aligned: Compare row by row instead of each with each.
        offset: 0 or 1.
    """
    first, second = bboxes1, bboxes2
    if not aligned:
        first, second = first[:, None], second[None]
    size = (
        torch.minimum(first[..., 2:], second[..., 2:])
        - torch.maximum(first[..., :2], second[..., :2])
        + offset
    ).clamp(min=0)
    intersection = size.prod(-1)
    area = (first[..., 2:] - first[..., :2] + offset).prod(-1)
    if mode == 0:
        other = (second[..., 2:] - second[..., :2] + offset).prod(-1)
        area = area + other - intersection
    ious.copy_(intersection / area)


def _overlaps(first: Array, second: Array, offset: int) -> Array:
    """Intersection over union of [4, M] with [4, N]: [M, N]. Boxes without area overlap none."""
    x1, y1, x2, y2 = first[:, :, None]
    width = np.minimum(x2, second[2]) - np.maximum(x1, second[0]) + offset
    height = np.minimum(y2, second[3]) - np.maximum(y1, second[1]) + offset
    intersection = np.maximum(width, 0, out=width)
    intersection *= np.maximum(height, 0, out=height)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    union = area + (second[2] - second[0] + offset) * (second[3] - second[1] + offset)
    union -= intersection
    return np.divide(intersection, union, out=intersection, where=intersection > 0)


def _separate(left: Array, reach: Array) -> list[Array]:
    """Groups of indices such that no box reaches a box of another group, each from left to right.

    So each group can be thinned out by itself, and their tables of overlaps together are smaller
    than one of all. `batched_nms` moves every class to a place of its own, which makes many gaps;
    below `GROUP_SIZE` boxes a group costs more than it spares, so neighbours then stay together.

    Args:
        left: x1. [N]
        reach: Where nothing farther right is touched. [N]
    """
    order = left.argsort(kind="stable")
    if len(order) < 2 * GROUP_SIZE:
        return [order]
    farthest = np.maximum.accumulate(reach[order])
    cuts, last = [], 0
    for gap in (np.flatnonzero(left[order][1:] >= farthest[:-1]) + 1).tolist():
        if gap - last >= GROUP_SIZE:
            cuts.append(gap)
            last = gap
    return np.split(order, cuts)


def _decays(
    first: Array, second: Array, iou_threshold: Any, sigma: Any, method: int, offset: int
) -> Array:
    """What a score of `second` is multiplied by once a box of `first` is picked: [M, N]."""
    overlaps = _overlaps(first, second, offset)
    if method == GAUSSIAN:
        overlaps *= overlaps
        overlaps /= -sigma
        return np.exp(overlaps, out=overlaps)
    factors = np.ones_like(overlaps)
    lowered = overlaps >= iou_threshold
    factors[lowered] = 1 - overlaps[lowered] if method == LINEAR else 0
    return factors


@operator
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017, figure 2): overlapping boxes lose score instead of going.

    The highest score is picked, the others are multiplied by f(IoU with it), and so on. With
    threshold t, f is 0 (naive) or 1 - IoU (linear) from IoU = t on and 1 below; gaussian
    (equation 3) is exp(-IoU^2 / sigma). Boxes below `min_score` are dropped, but one always stays.
    Boxes with a score that is not a number are dropped, too.

    Args:
        boxes: [N, 4] on the CPU.
        scores: [N] on the CPU.
        dets: Written in its first K rows: boxes and their final scores. [N, 5]
        iou_threshold: t.
        sigma: Of the gaussian.
        min_score: Smallest score to keep.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1.

    Returns:
        Indices of the boxes kept, as they were picked. [K] int64
    """
    dtype = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    corners = np.ascontiguousarray(boxes.to(dtype).numpy().T)
    start = scores.to(dtype).numpy()
    number = start.dtype.type
    settings = (number(_single(iou_threshold)), number(_single(sigma)), method, offset)
    smallest = number(_single(min_score))
    reach = corners[2] + offset
    if method == NAIVE and iou_threshold <= 0:
        reach[:] = np.inf  # boxes that do not touch suppress each other as well

    picked: list[Array] = [np.zeros(0, np.int64)]
    final: list[Array] = [start[:0]]
    for group in _separate(corners[0], reach) if len(start) else []:
        indices, values = _thin_out(
            corners[:, group], reach[group], start[group], smallest, settings
        )
        picked.append(group[indices])
        final.append(values)
    keep, values = np.concatenate(picked), np.concatenate(final)
    if not len(keep) and np.isfinite(start).any():
        keep = np.array([np.nanargmax(start)])
        values = start[keep]
    order = np.lexsort((keep, -values))
    keep = keep[order]
    dets[: len(keep)] = torch.from_numpy(np.vstack([corners[:, keep], values[order]]).T)
    return torch.from_numpy(keep)


def _thin_out(
    boxes: Array, reach: Array, scores: Array, min_score: Any, settings: tuple[Any, Any, int, int]
) -> tuple[list[int], Array]:
    """Soft-NMS of [4, N] boxes from left to right: the indices picked, and their scores then."""
    gone, least = scores.dtype.type(-np.inf), np.finfo(scores.dtype).tiny
    current = np.where(np.isnan(scores), gone, scores)

    def decays(rows: slice, columns: slice) -> Array:
        # Not below the least positive number: the score of a box that is gone must not become
        # 0 * -inf, which is not a number.
        factors = _decays(boxes[:, rows], boxes[:, columns], *settings)
        return np.maximum(factors, least, out=factors)

    count, table = len(scores), None
    if count <= TABLE_SIZE:
        table = np.ones((count, count), scores.dtype)
        step = BLOCK // count + 1
        for start in range(0, count, step):
            rows = slice(start, start + step)
            columns = slice(start, int(np.searchsorted(boxes[0], reach[rows].max())))
            table[rows, columns] = decays(rows, columns)
            table[columns, rows] = table[rows, columns].T
    indices: list[int] = []
    final: list[Any] = []
    while len(indices) < count:
        best = int(current.argmax())
        score = current[best]
        if score < min_score:
            break
        indices.append(best)
        final.append(score)
        if table is None:
            current *= decays(slice(best, best + 1), slice(None))[0]
        else:
            current *= table[best]
        current[best] = gone
    return indices, np.array(final, scores.dtype)


@operator
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy NMS that remembers whom each kept box suppressed.

    Args:
        dets: Boxes and scores on the CPU. [N, 5]
        iou_threshold: A box goes if it overlaps a kept one by at least this.

    Returns:
        For each kept box, by falling score: its index and those it suppressed, by falling score.
    """
    dtype = torch.float64 if dets.dtype == torch.float64 else torch.float32
    threshold = _single(iou_threshold)
    remaining = dets[:, 4].sort(0, descending=True).indices.numpy()
    boxes = np.ascontiguousarray(dets[:, :4].to(dtype).numpy().T)[:, remaining]
    if 0 < len(remaining) <= MATCH_SIZE:
        return _match_all(_overlaps(boxes, boxes, 0) >= threshold, remaining)
    groups = []
    while len(remaining):
        matches = _overlaps(boxes[:, : BLOCK // len(remaining) + 1], boxes, 0) >= threshold
        free = np.ones(len(remaining), bool)
        for row, matched in enumerate(matches):
            if free[row]:
                free[row] = False
                others = np.flatnonzero(matched & free)
                free[others] = False
                groups.append([int(remaining[row]), *remaining[others].tolist()])
        remaining, boxes = remaining[free], boxes[:, free]
    return groups


def _match_all(matches: Array, names: Array) -> list[list[int]]:
    """Groups of `nms_match` from the table of all pairs, boxes in falling order of score.

    Args:
        matches: Whether a box suppresses another. [N, N] bool
        names: Index of each box. [N]
    """
    rows, length = np.packbits(matches, axis=1, bitorder="little").tobytes(), -(-len(names) // 8)
    kept, gone = [], 0  # a bit for each box
    for i in range(len(names)):
        if not gone >> i & 1:
            kept.append(i)
            gone |= int.from_bytes(rows[i * length : (i + 1) * length], "little")
    # Each box belongs to the first kept one that suppresses it, a kept one to itself.
    owner = matches[kept].argmax(0)
    owner[kept] = np.arange(len(kept))
    members = names[owner.argsort(kind="stable")].tolist()
    ends = np.cumsum(np.bincount(owner)).tolist()
    return [members[start:end] for start, end in zip([0, *ends], ends, strict=False)]
