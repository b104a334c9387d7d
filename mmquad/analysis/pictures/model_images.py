"""Images as a model of mmdet, mmseg or mmpretrain sees them, and back to pictures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["image_to_input", "images_in", "input_to_image"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def images_in(paths: Iterable[str | Path]) -> list[Path]:
    """The given files, and all images in the given folders and below, sorted.

    Raises:
        FileNotFoundError: A path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not path.exists() or not files:
            what = "no image in it" if path.exists() else "no such file or folder"
            raise FileNotFoundError(f"{path}: {what} (looked for {', '.join(SUFFIXES)})")
        found += files
    return found


def image_to_input(image: np.ndarray, preprocessor: nn.Module | None, side: int) -> Tensor:
    """One RGB image, uint8, [H, W, 3], as normalised input of a backbone, [1, 3, H', W'].

    Args:
        image: The image.
        preprocessor: ``data_preprocessor`` of the model; None: ImageNet's mean and deviation.
        side: Its longer side after scaling, in pixels; 0 keeps its size.
    """
    if side:
        factor = side / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, size, interpolation=interpolation)
    mean, std, is_rgb = _normalisation(preprocessor)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return ((pixels if is_rgb else pixels.flip(1)) - mean) / std


def input_to_image(inputs: Tensor, preprocessor: nn.Module | None) -> np.ndarray:
    """One normalised input [3, H, W] as an RGB picture, uint8, [H, W, 3]."""
    mean, std, is_rgb = _normalisation(preprocessor)
    pixels = (inputs.detach().float().cpu() * std + mean)[0].clamp(0, 255)
    pixels = pixels if is_rgb else pixels.flip(0)
    return pixels.round().byte().permute(1, 2, 0).contiguous().numpy()


def _normalisation(preprocessor: Any) -> tuple[Tensor, Tensor, bool]:
    """Mean and deviation, [1, 3, 1, 1], and whether the model sees RGB; images are read as BGR."""
    if preprocessor is None:
        imagenet = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])
        return imagenet[0].view(1, 3, 1, 1), imagenet[1].view(1, 3, 1, 1), True
    is_rgb = bool(
        getattr(preprocessor, "_channel_conversion", False)
        or getattr(preprocessor, "to_rgb", False)
        or getattr(preprocessor, "channel_conversion", False)
    )
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    if mean is None or std is None:
        return torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), is_rgb
    return mean.cpu().view(1, 3, 1, 1), std.cpu().view(1, 3, 1, 1), is_rgb
