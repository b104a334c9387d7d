"""The hosts' inferencers work with our configs; folders are drawn and bad images are skipped."""

import csv
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image

from mmquad.cli import predict
from mmquad.errors import SetupError
from mmquad.inference.inferencer import ImageResult, draw_predictions, make_inferencer
from mmquad.inference.model_loading import build_model

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
TOOL = REPOSITORY / "tools/demo/demo_image.py"
ARCH = "dict(dim=8, depths=(1, 1, 1, 1), ssm_ratio=1.0)"
NECK = "neck=dict(in_channels=[8, 16, 32, 64]),"
TASKS = {
    "mmdet": ("mask-rcnn_quadmamba-demo_fpn_shapes.py", NECK),
    "mmseg": (
        "upernet_quadmamba-demo_shapes.py",
        "decode_head=dict(in_channels=[8, 16, 32, 64]), auxiliary_head=dict(in_channels=32),",
    ),
    "mmpretrain": ("quadmamba-demo_shapes.py", "head=dict(in_channels=64),"),
}


@pytest.fixture(scope="module", params=TASKS)
def model_files(request, tmp_path_factory) -> tuple[Path, Path]:
    """Config and checkpoint of a tiny model with random weights, one per library."""
    folder = tmp_path_factory.mktemp(request.param)
    base, heads = TASKS[request.param]
    config = folder / "config.py"
    config.write_text(
        f"_base_ = {str(CONFIGS / request.param / 'quadmamba' / base)!r}\n"
        f"model = dict(backbone=dict(arch={ARCH}), {heads})\n"
    )
    torch.manual_seed(0)
    model, cfg = build_model(config)
    classes = cfg.test_dataloader.dataset.get("metainfo", {}).get("classes", ["a", "b", "c", "d"])
    checkpoint = folder / "weights.pth"
    meta = {"dataset_meta": {"classes": list(classes)}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, checkpoint)
    return config, checkpoint


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two good images of different sizes and one name, and three that cannot be used."""
    draw = np.random.default_rng(0)
    names = ["a/one.png", "b/one.png", "empty.png", "cut.jpg", "float.tif"]
    paths = [tmp_path / "images" / name for name in names]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (64 + 16 * index, 80, 3)
        cv2.imwrite(str(path), draw.integers(0, 255, size, dtype=np.uint8))
    paths[2].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:500])
    Image.fromarray(np.zeros((64, 80), np.float32)).save(paths[4])
    return paths


def test_a_config_of_no_library_is_refused(tmp_path: Path):
    (tmp_path / "config.py").write_text("model = dict()")
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(SetupError, match=r"default_scope must be one of .* got None.*config\.py"):
        make_inferencer(tmp_path / "config.py", tmp_path / "weights.pth")


def test_weights_may_lie_elsewhere_in_the_file(model_files, tmp_path: Path):
    """The host alone would find none there, and predict with random ones."""
    config, checkpoint = model_files
    weights = torch.load(checkpoint)["state_dict"]
    torch.save({"model": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "moved.pth")
    loaded = make_inferencer(config, tmp_path / "moved.pth", device="cpu").model.state_dict()
    assert all(loaded[name].equal(value) for name, value in weights.items())


def test_good_images_are_drawn_and_bad_ones_reported(model_files, images, tmp_path: Path):
    inferencer = make_inferencer(*model_files, device="cpu")
    results = list(draw_predictions(inferencer, images, tmp_path / "out", score_threshold=0.0))
    assert [r.drawn.name if r.drawn else None for r in results] == [
        "one.png",
        "one_2.png",
        None,
        None,
        None,
    ]
    for result, height in zip(results[:2], (64, 80), strict=True):
        picture = cv2.imread(str(result.drawn))
        factor = 1 if "mmseg" in str(model_files[0].parent) else 480 / 80
        assert picture.shape == (height * factor, 80 * factor, 3)
        plain = cv2.resize(cv2.imread(str(result.image)), picture.shape[1::-1])
        assert (abs(picture.astype(int) - plain) > 60).mean() > 0.001  # something is drawn
        assert result.summary
    assert results[2].summary == "empty (0 bytes)"
    assert results[3].summary == "cut off after 500 bytes"
    assert results[4].summary.startswith("cannot be decoded")
    summary = results[0].summary
    if "mmseg" in str(model_files[0].parent):
        names = {"background", "disc", "rectangle", "triangle", "star"}
        assert {part.split(" ")[0] for part in summary.split(", ")} <= names
    elif "mmpretrain" in str(model_files[0].parent):
        assert 0.25 <= float(summary.split()[-1]) <= 1


def test_weights_that_do_not_fit_are_refused(model_files, tmp_path: Path):
    config, checkpoint = model_files
    content = torch.load(checkpoint)
    name = next(iter(content["state_dict"]))
    content["state_dict"][f"{name}_"] = content["state_dict"].pop(name)
    torch.save(content, tmp_path / "wrong.pth")
    with pytest.raises(SetupError, match=r"wrong\.pth does not fit"):
        make_inferencer(config, tmp_path / "wrong.pth", device="cpu")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(SetupError, match=r"empty\.pth is empty"):
        make_inferencer(config, tmp_path / "empty.pth", device="cpu")


def test_another_library_may_have_been_used_before(model_files):
    config, checkpoint = model_files
    other = "mmseg" if "mmseg" not in str(config.parent) else "mmdet"
    init_default_scope(other)
    assert make_inferencer(config, checkpoint, device="cpu").pipeline


def test_models_are_built_without_a_line_per_parameter(model_files, monkeypatch):
    logger = MMLogger.get_current_instance()
    lines: list[str] = []
    monkeypatch.setattr(logger, "handle", lambda record: lines.append(record.getMessage()))
    build_model(model_files[0])
    assert not [line for line in lines if "stages.0" in line]
    assert logger.isEnabledFor(logging.INFO)


@pytest.mark.parametrize("model_files", ["mmpretrain"], indirect=True)
def test_an_image_that_the_model_fails_on_costs_no_other(
    model_files, images, tmp_path, monkeypatch
):
    inferencer = make_inferencer(*model_files, device="cpu")
    predict = inferencer.forward

    def fail_once(inputs):
        monkeypatch.setattr(inferencer, "forward", predict)
        raise RuntimeError("out of memory\nat length")

    monkeypatch.setattr(inferencer, "forward", fail_once)
    failed, drawn = draw_predictions(inferencer, images[:2], tmp_path / "out")
    assert (failed.drawn, failed.summary) == (None, "RuntimeError: out of memory")
    assert drawn.drawn == tmp_path / "out/one.png"


@pytest.mark.slow
@pytest.mark.parametrize("model_files", ["mmpretrain"], indirect=True)
def test_the_tool(model_files, images, tmp_path: Path):
    images[0].rename(images[0].with_name(os.fsdecode(b"Zo\xeb.png")))  # Latin-1, no UTF-8
    command = [sys.executable, str(TOOL), *map(str, model_files)]
    options = ["--out-dir", str(tmp_path / "out"), "--device", "cpu"]
    done = subprocess.run(
        [*command, str(tmp_path / "images"), str(tmp_path / "absent.png"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert "6/6" in done.stdout
    assert f"skipped {images[2]}: empty (0 bytes)" in done.stdout
    with open(tmp_path / "out/predictions.csv", errors="surrogateescape") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "picture", "prediction"]
    assert len(rows) == 6
    assert all(row[1] == "skipped" or Path(row[1]).is_file() for row in rows)
    skipped = {row[0]: row[2] for row in rows if row[1] == "skipped"}
    assert skipped[str(images[3])] == "cut off after 500 bytes"
    assert skipped[str(images[4])].startswith("cannot be decoded")
    assert skipped[str(tmp_path / "absent.png")] == "missing"
    assert len(skipped) == 4


def run_tool(
    monkeypatch, out: Path, results: list[ImageResult | BaseException]
) -> tuple[object, list]:
    """Exit status (or message) and table of the tool, for these results in place of a model's."""

    def draw(inferencer, images, *arguments):
        for result in results:
            if isinstance(result, BaseException):
                raise result
            yield result

    monkeypatch.setattr(predict, "make_inferencer", lambda *arguments: None)
    monkeypatch.setattr(predict, "draw_predictions", draw)
    names = [f"{i}.png" for i in range(len(results))]
    monkeypatch.setattr(sys, "argv", ["tool", "config", "weights", *names, "--out-dir", str(out)])
    status: object = 0
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as end:
        status = end.code
    with open(out / "predictions.csv") as file:
        return status, list(csv.reader(file))[1:]


def test_the_tool_says_by_its_status_whether_all_images_were_predicted(tmp_path, monkeypatch):
    good = ImageResult(Path("0.png"), Path("out/0.png"), "cat 0.50")
    bad = ImageResult(Path("1.png"), None, "empty (0 bytes)")
    rows = [["0.png", "out/0.png", "cat 0.50"], ["1.png", "skipped", "empty (0 bytes)"]]
    assert run_tool(monkeypatch, tmp_path, [good]) == (0, rows[:1])
    assert run_tool(monkeypatch, tmp_path, [good, bad]) == (1, rows)
    assert run_tool(monkeypatch, tmp_path, [bad]) == ("No image could be used.", rows[1:])


def test_what_was_predicted_before_ctrl_c_is_kept(tmp_path, monkeypatch, capsys):
    good = ImageResult(Path("0.png"), Path("out/0.png"), "cat 0.50")
    status, rows = run_tool(monkeypatch, tmp_path, [good, KeyboardInterrupt(), good])
    assert status == 130
    assert rows == [["0.png", "out/0.png", "cat 0.50"]]
    assert "Interrupted after 1 of 3 images." in capsys.readouterr().out


def test_a_row_is_written_before_the_next_image_is_begun(tmp_path, monkeypatch):
    """A killed process leaves the table of what it has predicted."""
    seen = []

    class Watching(ImageResult):
        @property
        def summary(self):
            seen.append((tmp_path / "predictions.csv").read_text().count("\n"))
            return "cat"

        @summary.setter
        def summary(self, value): ...

    results = [Watching(Path(f"{i}.png"), Path("out.png"), "") for i in range(3)]
    run_tool(monkeypatch, tmp_path, results)
    assert seen[:3] == [0, 2, 3]
