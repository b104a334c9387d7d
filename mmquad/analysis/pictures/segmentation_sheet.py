"""Draws what a segmentation model found beside what is there, for many images on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmquad.analysis.pictures.figure_files import arrange_panels

_MARGIN = 6
_HEADER = 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TITLES = ("image", "truth", "prediction")

Color = tuple[int, int, int]


@dataclass(frozen=True)
class SegmentationExample:
    """One image of a sheet.

    Args:
        image: RGB, uint8, [H, W, 3].
        truth: Class of each pixel, int, [H, W]; -1 where nothing counts.
        prediction: Class of each pixel, int, [H, W].
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    def __post_init__(self) -> None:
        shape = self.image.shape[:2]
        for name, labels in (("truth", self.truth), ("prediction", self.prediction)):
            if labels.shape != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {labels.shape}")


def read_segmentation_examples(
    images: str | Path,
    annotations: str | Path,
    predictions: str | Path,
    max_images: int = 8,
) -> list[SegmentationExample]:
    """Reads the first images of a split laid out as ADE20K with the label maps of a test.

    Args:
        images: Folder of images, `.jpg`.
        annotations: Folder of label maps of the same names, `.png`: 0 where nothing counts, class
            i as i + 1.
        predictions: Folder that mmseg's `tools/test.py --out FOLDER` wrote: values as there.
        max_images: Number of images to read.

    Raises:
        FileNotFoundError: An image or a label map cannot be read, or there is none.
    """
    examples = []
    paths = sorted(Path(images).glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"expected .jpg images in {images}, found none")
    for path in paths[:max_images]:
        image = cv2.imread(str(path))
        if image is None:
            raise FileNotFoundError(f"expected an image at {path}, could not read one")
        examples.append(
            SegmentationExample(
                image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
                truth=_read_labels(Path(annotations) / f"{path.stem}.png"),
                prediction=_read_labels(Path(predictions) / f"{path.stem}.png"),
            )
        )
    return examples


def draw_segmentation_sheet(
    examples: Sequence[SegmentationExample],
    class_names: Sequence[str],
    palette: Sequence[Color],
    columns: int = 2,
    panel_side: int = 200,
) -> np.ndarray:
    """Draws image, truth and prediction side by side, and the colours of the classes below.

    Pixels that do not count are black in the truth, and greyed in the prediction.

    Args:
        examples: The images, in rows.
        class_names: Names of the classes.
        palette: Their RGB colours.
        columns: Examples per row.
        panel_side: Longest side of an image on the sheet, in pixels.

    Returns:
        RGB, uint8, [H, W, 3].

    Raises:
        ValueError: There is no example.
    """
    if not examples:
        raise ValueError("expected at least one example to draw, got none")
    colors = np.array([*palette, (0, 0, 0)], dtype=np.uint8)  # the last for label -1
    sheet = arrange_panels([_panels(e, colors, panel_side) for e in examples], columns)
    width = sheet.shape[1]
    header = np.full((_HEADER, width, 3), 255, dtype=np.uint8)
    for index in range(3 * min(columns, len(examples))):
        x = index * (panel_side + _MARGIN) + _MARGIN
        _write(header, _TITLES[index % 3], x)
    return np.vstack([header, sheet, _legend(class_names, palette, width)])


def _panels(example: SegmentationExample, colors: np.ndarray, side: int) -> np.ndarray:
    prediction = colors[example.prediction].copy()
    prediction[example.truth < 0] = prediction[example.truth < 0] // 2 + 64
    panels = [
        _fit(example.image, side, cv2.INTER_CUBIC),
        _fit(colors[example.truth], side, cv2.INTER_NEAREST),
        _fit(prediction, side, cv2.INTER_NEAREST),
    ]
    return np.hstack(panels)


def _fit(panel: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    """Enlarges a picture to a longest side, centred on a square with a margin at left and top."""
    H, W = panel.shape[:2]
    scale = side / max(H, W)
    size = (round(W * scale), round(H * scale))
    panel = cv2.resize(panel, size, interpolation=interpolation)
    frame = np.full((side + _MARGIN, side + _MARGIN, 3), 255, dtype=np.uint8)
    top, left = _MARGIN + (side - size[1]) // 2, _MARGIN + (side - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = panel
    return frame


def _legend(names: Sequence[str], palette: Sequence[Color], width: int) -> np.ndarray:
    legend = np.full((_HEADER, width, 3), 255, dtype=np.uint8)
    x = _MARGIN
    for name, color in [*zip(names, palette, strict=True), ("does not count", (0, 0, 0))]:
        cv2.rectangle(legend, (x, 7), (x + 14, 21), color, -1)
        x = _write(legend, name, x + 18) + 14
    return legend


def _write(strip: np.ndarray, text: str, x: int) -> int:
    cv2.putText(strip, text, (x, 19), _FONT, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return x + cv2.getTextSize(text, _FONT, 0.45, 1)[0][0]


def _read_labels(path: Path) -> np.ndarray:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise FileNotFoundError(f"expected a label map at {path}, could not read one")
    return labels.astype(int) - 1
