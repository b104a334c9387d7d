import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmquad.analysis.pictures.segmentation_sheet import (
    SegmentationExample,
    draw_segmentation_sheet,
    read_segmentation_examples,
)
from mmquad.datasets import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE, generate_shapes_ade

TOOL = Path(__file__).parents[3] / "tools" / "analysis_tools" / "draw_segmentation_sheet.py"
GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def labels(value: int) -> np.ndarray:
    return np.full((40, 60), value)


def test_colours_are_those_of_the_classes():
    truth = labels(1)
    truth[:, 40:] = -1
    sheet = draw_segmentation_sheet(
        [SegmentationExample(GREY, truth, labels(2))], "abc", SEGMENTATION_PALETTE[:3], 1, 120
    )
    panels = [sheet[26:152, i * 126 : (i + 1) * 126] for i in range(3)]
    middle = (6 + 60, 6 + 40)
    assert [tuple(panel[middle]) for panel in panels] == [
        (128, 128, 128),
        SEGMENTATION_PALETTE[1],
        SEGMENTATION_PALETTE[2],
    ]
    ignored = (6 + 60, 6 + 110)
    assert tuple(panels[1][ignored]) == (0, 0, 0)
    assert tuple(panels[2][ignored]) == tuple(c // 2 + 64 for c in SEGMENTATION_PALETTE[2])


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2)])
def test_sheet_size(count: int, rows: int):
    example = SegmentationExample(GREY, labels(0), labels(0))
    sheet = draw_segmentation_sheet([example] * count, "a", [(1, 2, 3)], 2, 100)
    assert sheet.shape == (26 + rows * 106 + 26, min(count, 2) * 3 * 106, 3)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        draw_segmentation_sheet([], "a", [(1, 2, 3)])
    with pytest.raises(ValueError, match=r"expected prediction of shape \(40, 60\)"):
        SegmentationExample(GREY, labels(0), labels(0).T)


def test_files_and_the_tool(tmp_path: Path, monkeypatch):
    root = generate_shapes_ade(tmp_path / "data", 1, 3)
    annotations = root / "annotations" / "validation"
    examples = read_segmentation_examples(root / "images/validation", annotations, annotations, 2)
    assert len(examples) == 2
    assert examples[0].truth.min() == -1
    assert examples[0].truth.max() < len(SEGMENTATION_CLASSES)
    np.testing.assert_array_equal(examples[0].truth, examples[0].prediction)
    with pytest.raises(FileNotFoundError, match=r"ADE_val_00000001\.png"):
        read_segmentation_examples(root / "images/validation", annotations, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected .jpg images in .*images/none"):
        read_segmentation_examples(root / "images/none", annotations, annotations)

    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", [TOOL.name, str(root), str(annotations), "--out", str(out)])
    runpy.run_path(str(TOOL), run_name="__main__")
    assert cv2.imread(str(out)).shape == (26 + 2 * 206 + 26, 6 * 206, 3)
