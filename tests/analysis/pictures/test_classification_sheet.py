import pickle
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmquad.analysis.pictures.classification_sheet import (
    ClassificationExample,
    draw_classification_sheet,
    read_classification_examples,
)

TOOL = Path(__file__).parents[3] / "tools" / "analysis_tools" / "draw_classification_sheet.py"
GREY = np.full((8, 8, 3), 128, dtype=np.uint8)


def test_right_is_green_and_wrong_is_red():
    def ink(prediction: int) -> np.ndarray:
        """The pixel of the last line that is furthest from white."""
        sheet = draw_classification_sheet([ClassificationExample(GREY, 1, prediction, 0.5)], "ab")
        line = sheet[128 + 16 :].reshape(-1, 3).astype(int)
        return line[line.sum(axis=1).argmin()]

    red, green, _ = ink(1)
    assert green > red + 50
    red, green, _ = ink(0)
    assert red > green + 50
    with pytest.raises(ValueError, match="at least one example"):
        draw_classification_sheet([], "ab")


def test_long_names_are_written_smaller():
    example = ClassificationExample(np.zeros((8, 8, 3), np.uint8), truth=0, prediction=0, score=1.0)
    sheet = draw_classification_sheet([example], ["a name that is much too long for one panel"])
    assert (sheet[128:, :120] < 128).any()
    assert (sheet[128:, 129:] == 255).all()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = []
    for index in range(10):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), index, dtype=np.uint8))
        scores = np.array([0.25, 0.75])[:: 1 if index % 2 else -1]
        rows.append({"img_path": str(path), "pred_score": scores, "gt_label": np.array([0])})
    (tmp_path / "results.pkl").write_bytes(pickle.dumps(rows[::-1]))
    return tmp_path / "results.pkl"


def test_results_are_read_evenly_spaced(results: Path):
    examples = read_classification_examples(results, 4)
    assert [int(e.image[0, 0, 0]) for e in examples] == [0, 3, 6, 9]
    assert [e.prediction for e in examples] == [0, 1, 0, 1]
    assert {e.truth for e in examples} == {0}
    assert {e.score for e in examples} == {0.75}
    (results.parent / "9.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"9\.png"):
        read_classification_examples(results, 4)


def test_the_tool(results: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "sheet.png"
    arguments = [str(results), "--out", str(out), "--classes", "a", "b", "--columns", "4"]
    monkeypatch.setattr(sys, "argv", [TOOL.name, *arguments])
    runpy.run_path(str(TOOL), run_name="__main__")
    assert cv2.imread(str(out)).shape == (3 * 164, 4 * 134, 3)
