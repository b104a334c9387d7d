"""Draws what a detector found beside what is there, for many images on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmquad.analysis.pictures.figure_files import arrange_panels

_MARGIN = 8
_GUTTER = 24
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.45
_INK = (40, 40, 40)
_PAPER = 255


@dataclass(frozen=True)
class Detections:
    """Objects of one image, annotated or predicted.

    Args:
        boxes: Corners x1, y1, x2, y2 in pixels, [N, 4].
        labels: Indices of the classes, int, [N].
        masks: Bool, [N, H, W], or None for boxes only.
        scores: Confidences of predictions, [N], or None for annotations.
        ignored: Pixels where detections do not count (COCO's crowd regions), bool, [H, W].
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    scores: np.ndarray | None = None
    ignored: np.ndarray | None = None

    def __post_init__(self) -> None:
        N = len(self.labels)
        if self.boxes.shape != (N, 4):
            raise ValueError(f"expected boxes of shape {(N, 4)}, got {self.boxes.shape=}")
        for name, values in (("masks", self.masks), ("scores", self.scores)):
            if values is not None and len(values) != N:
                raise ValueError(f"expected {N} {name}, one per label, got {len(values)}")


@dataclass(frozen=True)
class DetectionExample:
    """One image of a sheet.

    Args:
        image: RGB, uint8, [H, W, 3].
        truth: What is there.
        prediction: What was found.
    """

    image: np.ndarray
    truth: Detections
    prediction: Detections


def class_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Distinct RGB colours: hues of equal distance, alternately bright and dark."""
    hues = np.arange(num_classes) * 180 / max(num_classes, 1)
    values = np.where(np.arange(num_classes) % 2, 190, 240)
    hsv = np.stack([hues, np.full(num_classes, 215), values], axis=1).astype(np.uint8)
    return [tuple(rgb) for rgb in cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0].tolist()]


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    scale: float = 1.0,
) -> np.ndarray:
    """Draws masks, boxes, class names and scores over an image.

    Args:
        image: RGB, uint8, [H, W, 3].
        detections: What to draw.
        class_names: Names of the classes, by label.
        scale: Factor by which the image is enlarged first, so that the text is readable.

    Returns:
        RGB, uint8, [round(H * scale), round(W * scale), 3].
    """
    H, W = image.shape[:2]
    size = (round(W * scale), round(H * scale))
    palette = class_palette(len(class_names))
    panel = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    if detections.ignored is not None and detections.ignored.any():
        _hatch(panel, _enlarge(detections.ignored, size))
    for mask, label in zip(_masks(detections), detections.labels, strict=False):
        _tint(panel, _enlarge(mask, size), palette[label])
    corners = np.rint(detections.boxes * scale).astype(int)
    for (x1, y1, x2, y2), label in zip(corners.tolist(), detections.labels, strict=True):
        cv2.rectangle(panel, (x1, y1), (x2 - 1, y2 - 1), palette[label], 2)
    # names last: no box may cross them
    taken = np.zeros(panel.shape[:2], dtype=bool)
    for index, box in enumerate(corners.tolist()):
        label = int(detections.labels[index])
        text = class_names[label]
        if detections.scores is not None:
            text += f" {detections.scores[index]:.2f}"
        _write_name(panel, text, box, palette[label], taken)
    return panel


def draw_detection_sheet(
    examples: Sequence[DetectionExample],
    class_names: Sequence[str],
    columns: int = 2,
    panel_side: int = 320,
) -> np.ndarray:
    """Draws a contact sheet: a pair of panels, truth and prediction, for every image.

    Args:
        examples: The images.
        class_names: Names of the classes, by label.
        columns: Number of pairs beside each other.
        panel_side: Longest side of a panel in pixels; images are scaled to it.

    Returns:
        RGB, uint8, [H, W, 3].
    """
    if not examples:
        raise ValueError("expected at least one example, got none")
    pairs = []
    for example in examples:
        scale = panel_side / max(example.image.shape[:2])
        panels = (
            draw_detections(example.image, found, class_names, scale)
            for found in (example.truth, example.prediction)
        )
        pair = np.hstack([_pad(panel, panel_side, panel_side) for panel in panels])
        pairs.append(_pad(pair, pair.shape[0], pair.shape[1] + _GUTTER))

    header = np.full((24, pairs[0].shape[1], 3), _PAPER, dtype=np.uint8)
    for text, side in (("truth", -1), ("prediction", 1)):
        (width, _), _ = cv2.getTextSize(text, _FONT, 0.55, 1)
        x = (header.shape[1] + side * (panel_side + _MARGIN) - width) // 2
        cv2.putText(header, text, (x, 18), _FONT, 0.55, _INK, 1, cv2.LINE_AA)

    sheet = arrange_panels(pairs, columns)
    return np.vstack([np.hstack([header] * min(columns, len(pairs))), sheet])


def write_picture(path: str | Path, image: np.ndarray) -> Path:
    """Writes an RGB, uint8 image, [H, W, 3], to a file of the type that its name ends with."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    options = [cv2.IMWRITE_JPEG_QUALITY, 85] if is_jpeg else []
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"could not write {path}")
    path.write_bytes(content.tobytes())  # cv2.imwrite crashes at names that are not UTF-8
    return path


def _masks(detections: Detections) -> np.ndarray | list[np.ndarray]:
    return [] if detections.masks is None else detections.masks


def _enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # smooth before the threshold, or the borders would show the pixels of the small image
    soft = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return soft >= 0.5


def _tint(panel: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    panel[mask] = np.rint(0.5 * panel[mask] + 0.5 * np.array(color)).astype(np.uint8)
    borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(panel, borders, -1, color, 1, cv2.LINE_AA)


def _hatch(panel: np.ndarray, region: np.ndarray) -> None:
    """Greys a region out under diagonal lines."""
    rows, columns = np.indices(region.shape)
    lines = region & ((rows + columns) % 10 < 2)
    panel[region] = panel[region] // 2 + 96
    panel[lines] = 60


def _write_name(
    panel: np.ndarray, text: str, box: list[int], color: tuple[int, int, int], taken: np.ndarray
) -> None:
    """Writes text on a filled tag at a corner of a box, clear of earlier tags if possible.

    Args:
        panel: RGB, uint8, [H, W, 3]; drawn on.
        text: The text.
        box: Corners x1, y1, x2, y2 in pixels of the panel.
        color: RGB of the tag.
        taken: Pixels of the panel under tags, bool, [H, W]; the new tag is added.
    """
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    width, height = text_width + 4, text_height + baseline + 2
    x1, y1, x2, y2 = box
    places = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2), (x1, y1)]
    limits = (max(panel.shape[1] - width, 0), max(panel.shape[0] - height, 0))
    inside = [tuple(np.clip(place, 0, limits).tolist()) for place in places]
    overlaps = [np.count_nonzero(taken[y : y + height, x : x + width]) for x, y in inside]
    x, y = inside[int(np.argmin(overlaps))]

    taken[y : y + height, x : x + width] = True
    panel[y : y + height, x : x + width] = color
    luminance = np.dot(color, (0.299, 0.587, 0.114))
    ink = (0, 0, 0) if luminance > 120 else (255, 255, 255)
    origin = (x + 2, y + text_height + 1)
    cv2.putText(panel, text, origin, _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)


def _pad(panel: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centres a panel on paper of a size, and adds a margin."""
    frame = np.full((height + _MARGIN, width + _MARGIN, 3), _PAPER, dtype=np.uint8)
    top, left = (frame.shape[0] - panel.shape[0]) // 2, (frame.shape[1] - panel.shape[1]) // 2
    frame[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return frame
