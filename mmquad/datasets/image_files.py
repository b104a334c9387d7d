"""Writes the images and label maps of generated data sets."""

from pathlib import Path

import cv2
import numpy as np

_JPEG_QUALITY = 95


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image, uint8, [H, W, 3]; the name may end with .jpg, .JPEG and the like."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    path.write_bytes(data.tobytes())


def write_label_map(path: Path, labels: np.ndarray) -> None:
    """Writes class indices, uint8, [H, W], as a PNG with one channel."""
    _, data = cv2.imencode(".png", labels)
    path.write_bytes(data.tobytes())
