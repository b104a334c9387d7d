"""Draws images with their true and their predicted class, many on one sheet."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmquad.analysis.pictures.figure_files import arrange_panels

_MARGIN = 6
_CAPTION = 36
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE = 0.4
_RIGHT, _WRONG = (20, 120, 40), (200, 30, 30)


@dataclass(frozen=True)
class ClassificationExample:
    """One image of a sheet.

    Args:
        image: RGB, uint8, [H, W, 3].
        truth: Index of its class.
        prediction: Index of the most probable class.
        score: Probability of that class.
    """

    image: np.ndarray
    truth: int
    prediction: int
    score: float


def read_classification_examples(
    results_file: str | Path, max_images: int = 32
) -> list[ClassificationExample]:
    """Reads evenly spaced results of a test.

    Args:
        results_file: What mmpretrain's `tools/test.py --out results.pkl` wrote. It is a pickle:
            only read files that you trust.
        max_images: Number of images to read.

    Raises:
        FileNotFoundError: An image has moved.
    """
    with open(results_file, "rb") as file:
        results = pickle.load(file)
    results = sorted(results, key=lambda result: result["img_path"])
    chosen = np.unique(np.linspace(0, len(results) - 1, max_images).round().astype(int))
    examples = []
    for index in chosen:
        result = results[index]
        image = cv2.imread(result["img_path"])
        if image is None:
            raise FileNotFoundError(f"expected an image at {result['img_path']}")
        scores = np.asarray(result["pred_score"])
        examples.append(
            ClassificationExample(
                image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
                truth=int(np.asarray(result["gt_label"]).item()),
                prediction=int(scores.argmax()),
                score=float(scores.max()),
            )
        )
    return examples


def draw_classification_sheet(
    examples: Sequence[ClassificationExample],
    class_names: Sequence[str],
    columns: int = 8,
    panel_side: int = 128,
) -> np.ndarray:
    """Draws images over their true class and, green if right and red if wrong, the predicted one.

    Returns:
        RGB, uint8, [H, W, 3].

    Raises:
        ValueError: There is no example.
    """
    if not examples:
        raise ValueError("expected at least one example to draw, got none")
    panels = []
    for example in examples:
        panel = np.full((panel_side + _CAPTION, panel_side + _MARGIN, 3), 255, dtype=np.uint8)
        panel[:panel_side, :panel_side] = cv2.resize(example.image, (panel_side, panel_side))
        color = _RIGHT if example.prediction == example.truth else _WRONG
        found = f"{class_names[example.prediction]} {example.score:.2f}"
        for text, y, ink in (
            (f"is: {class_names[example.truth]}", 13, (40, 40, 40)),
            (f"found: {found}", 29, color),
        ):
            width = cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0]
            scale = _SCALE * min(1, (panel_side - 4) / width)  # long names are written smaller
            cv2.putText(panel, text, (1, panel_side + y), _FONT, scale, ink, 1, cv2.LINE_AA)
        panels.append(panel)
    return arrange_panels(panels, columns)
