import json
import runpy
import sys
from pathlib import Path

import cv2

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "draw_training_curves.py"


def test_the_tool_draws_the_wanted_metrics(tmp_path, monkeypatch):
    folder = tmp_path / "20250101_000000" / "vis_data"
    folder.mkdir(parents=True)
    records = [{"loss": 1.0, "iter": 1, "step": 1}, {"mIoU": 40.0, "step": 1}]
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, records)))
    widths = []
    for metrics in ([], ["mIoU"]):
        out = tmp_path / "curves.png"
        arguments = [str(tmp_path), "--out", str(out), "--metrics", *metrics]
        monkeypatch.setattr(sys, "argv", [TOOL.name, *arguments])
        runpy.run_path(str(TOOL), run_name="__main__")
        widths.append(cv2.imread(str(out)).shape[1])
    assert widths[1] == 2 * widths[0]
