"""The picture tools run from the command line and say what is wrong in words."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmquad.inference.model_loading import build_model

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"


def run(tool: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        str(REPOSITORY / "tools/analysis_tools" / tool),
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


def is_picture(path: Path) -> bool:
    return path.is_file() and cv2.imread(str(path)) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a checkpoint of the demo classifier and an image."""
    folder = tmp_path_factory.mktemp("pictures")
    model, _ = build_model(CONFIG)
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "image.png"), image)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.slow
def test_scan_paths(tmp_path: Path):
    done = run("draw_scan_paths.py", "--out", "quad.png", "--only", "quad", cwd=tmp_path)
    assert done.stdout.strip() == "quad.png", done.stderr
    assert is_picture(tmp_path / "quad.png")
    wrong = run("draw_scan_paths.py", "--only", "spiral", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "must be part of one of" in wrong.stderr


@pytest.mark.slow
def test_partitions(folder: Path):
    arguments = (CONFIG, folder / "weights.pth", folder, "--out-dir", "out")
    done = run("draw_partitions.py", *arguments, cwd=folder)
    assert "broken.png: cannot be decoded, skipped" in done.stdout, done.stderr
    assert is_picture(folder / "out/image.jpg")
    twice = (*arguments[:2], folder / "image.png", folder / "image.png", "--out-dir", "twice")
    run("draw_partitions.py", *twice, cwd=folder)
    assert is_picture(folder / "twice/image_2.jpg")


@pytest.mark.slow
def test_receptive_field(folder: Path, tmp_path: Path):
    arguments = ("--config", CONFIG, "--checkpoint", folder / "weights.pth", "--size", 64)
    options = ("--images", folder / "image.png", "--out", "field.png")
    done = run("draw_receptive_field.py", *arguments, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert is_picture(tmp_path / "field.png")
    missing = run("draw_receptive_field.py", cwd=tmp_path)
    assert "Give --config, or --backbone" in missing.stderr
    useless = run("draw_receptive_field.py", *arguments[2:], "--backbone", "Vim", cwd=tmp_path)
    assert "--checkpoint needs the --config" in useless.stderr
    broken = ("--backbone", "Vim:tiny", "--images", folder / "broken.png")
    damaged = run("draw_receptive_field.py", *broken, cwd=tmp_path)
    assert "broken.png: cannot be decoded" in damaged.stderr
