"""Published accuracies beside counts and times, and the picture of them."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import pytest

from mmquad.analysis.accuracy import accuracy_points, published
from mmquad.analysis.pictures.accuracy import METRICS, AccuracyPoint, draw_accuracy

ROOT = Path(__file__).parents[2]
COUNTS = json.loads((ROOT / "docs" / "comparison.json").read_text())
TIMES = json.loads((ROOT / "docs" / "cpu_times.json").read_text())


def test_what_is_published():
    found = published(ROOT)
    assert found["classification", "QuadMamba small"] == 82.4
    assert found["detection", "QuadMamba small"] == 46.7
    assert found["segmentation", "Swin-T"] == 44.5
    assert found["classification", "ResNet-50"] == 79.0
    assert found["detection", "SpatialMamba tiny"] == 47.6, "of 12 epochs, not of 36"
    assert ("detection", "PVT-M") not in found


def test_every_published_figure_is_drawn_that_can_be():
    points = accuracy_points(ROOT, COUNTS, TIMES["ms"])
    drawn = {task: sum(p.task == task for p in points) for task in METRICS}
    known = {task: sum(t == task for t, _ in published(ROOT)) for task in METRICS}
    # RegNetY has no times, as no detector has it; MambaVision's detectors are cascades.
    assert drawn["classification"] == known["classification"] - 3
    assert drawn["detection"] == known["detection"]
    assert drawn["segmentation"] == known["segmentation"]
    (swin,) = (
        p for p in points if (p.family, p.task) == ("Swin", "detection") and p.accuracy == 42.7
    )
    assert swin.control
    assert swin.flops == COUNTS["detection"]["Swin-T"]["flops"]
    assert swin.milliseconds == TIMES["ms"]["512"]["Swin-T"]


def test_the_picture(tmp_path: Path, monkeypatch, capsys):
    points = [
        AccuracyPoint("QuadMamba", task, 40.0 + i, 1e9 * (i + 1), 10.0 * (i + 1))
        for task in METRICS
        for i in range(3)
    ]
    path = draw_accuracy(points, tmp_path / "new" / "accuracy.png", "by hand")
    assert cv2.imread(str(path)).shape[:2] == (720, 1100)
    with pytest.raises(ValueError, match="at least one model"):
        draw_accuracy([], tmp_path / "none.png", "")
    tool = ROOT / "tools" / "analysis_tools" / "draw_accuracy.py"
    monkeypatch.setattr(sys, "argv", [tool.name, "--out", str(tmp_path / "all.png")])
    runpy.run_path(str(tool), run_name="__main__")
    assert capsys.readouterr().out.strip() == str(tmp_path / "all.png")
    assert cv2.imread(str(tmp_path / "all.png")).std() > 10
