"""The hosts' inferencers work with our configs; folders are drawn and bad images are skipped."""

import csv
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmquad.errors import SetupError
from mmquad.inference.inferencer import draw_predictions, make_inferencer
from mmquad.inference.model_loading import build_model

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
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
    """Two good images of different sizes and one name, one empty and one cut off."""
    draw = np.random.default_rng(0)
    names = ["a/one.png", "b/one.png", "empty.png", "cut.jpg"]
    paths = [tmp_path / "images" / name for name in names]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (64 + 16 * index, 80, 3)
        cv2.imwrite(str(path), draw.integers(0, 255, size, dtype=np.uint8))
    paths[2].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:500])
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


@pytest.mark.slow
@pytest.mark.parametrize("model_files", ["mmpretrain"], indirect=True)
def test_the_tool(model_files, images, tmp_path: Path):
    command = [sys.executable, str(REPOSITORY / "tools/demo/demo_image.py"), *map(str, model_files)]
    options = ["--out-dir", str(tmp_path / "out"), "--device", "cpu"]
    done = subprocess.run(
        [*command, str(tmp_path / "images"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "4/4" in done.stdout
    assert f"skipped {images[2]}: empty (0 bytes)" in done.stdout
    with open(tmp_path / "out/predictions.csv") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 5
    assert [row[1] for row in rows].count("skipped") == 2
