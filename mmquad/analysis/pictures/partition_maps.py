"""Shows where quadtree blocks read an image finely, and their scores (QuadMamba, fig. 6, 10)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mmquad.analysis.pictures.figure_files import arrange_panels
from mmquad.layers.window_selector import WindowSelector
from mmquad.scans import QuadScan

__all__ = ["Partition", "draw_partition_sheet", "image_partitions", "record_partitions", "regions"]

_MARGIN = 6
_HEADER = 18
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE = (255, 255, 255)
_CHOSEN = (255, 140, 0)


@dataclass(frozen=True)
class Partition:
    """How one block reads one image.

    Args:
        block: Name of the block in the model, such as ``stages.0.1``.
        scores: Probability that a token is "local", which windows are chosen by, [H, W].
        region: Index of the window that each token is read with, int, [H, W]: 0-3 for coarse
            windows, 4-19 for the fine windows of a chosen one, 20-83 for those of a third level.
        windows: Number of coarse windows, where the fine ones begin.
    """

    block: str
    scores: np.ndarray
    region: np.ndarray
    windows: int = 4

    @property
    def chosen(self) -> np.ndarray:
        """Tokens of the chosen windows, bool, [H, W]."""
        return self.region >= self.windows


def regions(scan: QuadScan, height: int, width: int, window: int | Sequence[int]) -> np.ndarray:
    """Window that each token is read with when some are chosen, [H, W].

    Args:
        scan: The quadtree.
        height: Of the map.
        width: Of the map.
        window: Where the selector's weight is 1: coarse windows, and with three levels
            ``Q + 4 q + i`` for part i of coarse window q.

    Example:
        >>> regions(QuadScan(), 4, 4, window=0)[:2].tolist()
        [[4, 5, 1, 1], [8, 9, 1, 1]]
    """
    chosen: np.ndarray = np.ones((height, width), dtype=bool)
    shifted: np.ndarray = np.zeros((height, width), dtype=int)
    place = shifted
    start = 0
    for i in range(scan.levels):
        level = scan.coarse_level + i
        row, column = _parts(height, level)[:, None], _parts(width, level)
        raster = 2**level * row + column
        shifted = np.where(chosen, start + raster, shifted)
        # The weight counts coarse windows in raster order, then the four parts of each of them.
        place = 4 * place + 2 * (row % 2) + column % 2 if i else raster
        chosen = chosen & np.isin(place + (scan.windows if i else 0), window)
        start += 4**level
    # the windows are those of the rolled map: roll them back to the image
    back = tuple(-amount for amount in scan.amounts(height, width))
    return np.roll(shifted, back, axis=(0, 1))


@contextmanager
def record_partitions(model: nn.Module) -> Iterator[list[list[Partition]]]:
    """Record the partitions of all forward passes inside the context.

    Args:
        model: Anything that holds quadtree blocks: a backbone, a detector, a wrapped model.

    Yields:
        A list that grows by one list per block and forward pass, in the order of the network: the
        partition of each image of the batch.

    Raises:
        ValueError: The model has no quadtree block.
    """
    selectors = {n: m for n, m in model.named_modules() if isinstance(m, WindowSelector)}
    if not selectors:
        raise ValueError(
            f"expected a model with quadtree blocks (mmquad.QuadMamba), got {type(model).__name__} "
            "without any: partition maps exist for quadtrees only"
        )
    records: list[list[Partition]] = []

    def record(name: str, selector: WindowSelector, inputs: tuple, weight: Tensor) -> None:
        x, scan = inputs
        height, width = x.shape[1:3]
        with torch.no_grad():
            tables = scan.tables(height, width, x.device)
            probability = selector.score_map(x, tables).exp().view(-1, height, width)
        scores = probability.float().cpu().numpy()
        chosen = weight.detach().gt(0.5).cpu().numpy()
        block = name.split("backbone.")[-1].removesuffix(".mixer.selector")
        records.append(
            [
                Partition(block, score, regions(scan, height, width, row.tolist()), scan.windows)
                for score, row in zip(scores, map(np.flatnonzero, chosen), strict=True)
            ]
        )

    handles = [
        selector.register_forward_hook(lambda m, i, o, name=name: record(name, m, i, o))
        for name, selector in selectors.items()
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def image_partitions(backbone: nn.Module, images: Tensor) -> list[list[Partition]]:
    """Partitions of every image, block by block.

    Args:
        backbone: A backbone with quadtree blocks, in the mode it is to be seen in.
        images: Normalised as the backbone expects, [B, 3, H, W].

    Returns:
        For each image, one partition per quadtree block.
    """
    with record_partitions(backbone) as records, torch.no_grad():
        backbone(images)
    return [list(blocks) for blocks in zip(*records, strict=True)]


def draw_partition_sheet(
    image: np.ndarray, partitions: Sequence[Partition], panel_side: int = 200, columns: int = 8
) -> np.ndarray:
    """Draws, for each block, its partition over the image and its score map below.

    The chosen window is orange with its fine windows; the rest is read window by window. Scores go
    from dark (lowest of the block) to bright; the range stands above.

    Args:
        image: RGB, uint8, [H, W, 3]: what the blocks saw, padding included.
        partitions: Of the blocks.
        panel_side: Longest side of a panel in pixels.
        columns: Blocks beside each other; more go below.

    Returns:
        RGB, uint8, [H', W', 3].
    """
    if not partitions:
        raise ValueError("expected the partition of at least one block, got none")
    factor = panel_side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    panel = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    pairs = []
    for partition in partitions:
        low, high = float(partition.scores.min()), float(partition.scores.max())
        top = _titled(_draw_windows(panel, partition), partition.block)
        bottom = _titled(_draw_scores(panel, partition), f"score {low:.2f} to {high:.2f}")
        pairs.append(np.vstack([top, bottom]))
    first = np.vstack([_titled(panel, "image"), np.full_like(_titled(panel, ""), 255)])
    return arrange_panels([first, *pairs], columns)


def _parts(length: int, level: int) -> np.ndarray:
    """For every position of an axis its part of ``2 ** level``, cut as in mmquad.scans.quad."""
    cuts = [0, length]
    for _ in range(level):
        cuts = sorted([*cuts, *((a + b + 1) // 2 for a, b in pairwise(cuts))])
    return np.searchsorted(cuts[1:-1], np.arange(length), side="right")


def _draw_windows(panel: np.ndarray, partition: Partition) -> np.ndarray:
    size = panel.shape[1::-1]
    region = cv2.resize(partition.region.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST)
    drawn = (panel * 0.75).astype(np.uint8)
    chosen = region >= partition.windows
    drawn[chosen] = (0.75 * panel[chosen] + 0.25 * np.array(_CHOSEN)).astype(np.uint8)
    edges = np.zeros(region.shape, dtype=bool)
    edges[1:] |= region[1:] != region[:-1]
    edges[:, 1:] |= region[:, 1:] != region[:, :-1]
    # two pixels, so that the lines survive when the sheet is shown small
    edges[:-1] |= edges[1:]
    edges[:, :-1] |= edges[:, 1:]
    drawn[edges] = _LINE
    drawn[edges & cv2.dilate(chosen.astype(np.uint8), np.ones((3, 3))).astype(bool)] = _CHOSEN
    return drawn


def _draw_scores(panel: np.ndarray, partition: Partition) -> np.ndarray:
    scores = partition.scores - partition.scores.min()
    scores = np.rint(255 * scores / max(float(scores.max()), 1e-12)).astype(np.uint8)
    scores = cv2.resize(scores, panel.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    heat = cv2.applyColorMap(scores, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    grey = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY)[..., None]
    return (0.7 * heat + 0.3 * grey).astype(np.uint8)


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    height, width = panel.shape[:2]
    frame = np.full((height + _HEADER + _MARGIN, width + _MARGIN, 3), 255, dtype=np.uint8)
    frame[_HEADER : _HEADER + height, :width] = panel
    cv2.putText(frame, title, (1, _HEADER - 5), _FONT, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return frame
