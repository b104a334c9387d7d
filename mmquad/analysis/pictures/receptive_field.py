"""The effective receptive field of backbones (arXiv:1701.04128; QuadMamba, fig. 11)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn

from mmquad.analysis.pictures.figure_files import write_figure

__all__ = ["area_side", "draw_receptive_fields", "effective_receptive_field"]

_FRACTIONS = (0.2, 0.5, 0.99)


def effective_receptive_field(
    backbone: nn.Module, images: Tensor, out_index: int = -1
) -> np.ndarray:
    """How strongly each input pixel moves the central output: the mean of absolute gradients.

    Differentiated is the sum of the positive channels of the feature in the middle of one of the
    backbone's maps, as RepLKNet does (the sum of all channels is constant after a LayerNorm);
    gradients are summed over colours and averaged over images.

    Args:
        backbone: Image [B, 3, H, W] to a sequence of maps; evaluated in evaluation mode.
        images: Normalised, [B, 3, H, W]. One at a time, memory is that of a single image.
        out_index: Which of the backbone's maps.

    Returns:
        Non-negative, float64, [H, W], with sum 1; zeros if nothing reaches the output.

    Raises:
        ValueError: There is no image.
    """
    if not len(images):
        raise ValueError(f"expected at least one image, got {images.shape=}")
    was_training = backbone.training
    backbone.eval()
    total = torch.zeros(images.shape[-2:], dtype=torch.float64, device=images.device)
    try:
        for image in images:
            pixels = image[None].clone().requires_grad_()
            feature = backbone(pixels)[out_index]
            row, column = feature.shape[2] // 2, feature.shape[3] // 2
            (gradient,) = torch.autograd.grad(feature[0, :, row, column].relu().sum(), pixels)
            total += gradient[0].abs().sum(0).double()
    finally:
        backbone.train(was_training)
    return (total / total.sum().clamp(min=1e-300)).cpu().numpy()


def area_side(field: np.ndarray, fraction: float) -> float:
    """Side of the smallest centred square that holds a fraction of the field, over the image's.

    The square grows to the longer side of the image; RepLKNet (arXiv:2203.06717, table 10) counts
    the same.

    Args:
        field: Of sum 1, [H, W].
        fraction: In (0, 1].

    Example:
        >>> area_side(np.full((10, 10), 0.01), 0.36)
        0.6
    """
    height, width = field.shape
    rows, columns = np.indices(field.shape)
    # smallest half side of a square around the middle that contains each pixel
    distance = np.maximum(abs(rows - (height - 1) / 2), abs(columns - (width - 1) / 2))
    order = np.argsort(distance.ravel(), kind="stable")
    enough = int(np.searchsorted(np.cumsum(field.ravel()[order]), fraction - 1e-9))
    side = 2 * distance.ravel()[order[min(enough, len(order) - 1)]] + 1
    return float(side / max(height, width))


def draw_receptive_fields(fields: Mapping[str, np.ndarray], path: str | Path) -> Path:
    """Draws fields beside each other, on one logarithmic scale over three decades, to a PNG.

    Below each: the side of the centred squares that hold 20, 50 and 99 % of it, in per cent of the
    image's.

    Args:
        fields: Fields of sum 1, [H, W], by title.
        path: The PNG to write.

    Returns:
        `path`.
    """
    figure = Figure(figsize=(2.5 * len(fields) + 0.7, 2.9), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(fields), squeeze=False)[0]
    smoothed = {title: _smooth(field) for title, field in fields.items()}
    highest = max(float(field.max()) for field in smoothed.values())
    norm = LogNorm(vmin=max(highest, 1e-300) / 1000, vmax=max(highest, 1e-300), clip=True)
    for panel, (title, field) in zip(panels, smoothed.items(), strict=True):
        drawn = panel.imshow(field, norm=norm, cmap=colormaps["magma"])
        sides = [f"{f:.0%}: {area_side(fields[title], f):.0%}" for f in _FRACTIONS]
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("side holding " + ", ".join(sides), fontsize=7)
        panel.set(xticks=[], yticks=[])
    bar = figure.colorbar(drawn, ax=list(panels), shrink=0.75, ticks=[highest, highest / 1000])
    bar.ax.set_yticklabels(["1", "0.001"], fontsize=7)
    bar.ax.minorticks_off()
    bar.set_label("gradient / highest", fontsize=8)
    return write_figure(path, figure)


def _smooth(field: np.ndarray, side: int = 4) -> np.ndarray:
    """Means over blocks of 4 x 4 pixels: strided stems leave gradients as a lattice of dots."""
    height, width = (length // side * side for length in field.shape)
    if not height or not width:
        return field
    blocks = field[:height, :width].reshape(height // side, side, width // side, side)
    return blocks.mean(axis=(1, 3))
