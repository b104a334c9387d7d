"""What is missing or wrong in a data set is found; the counts are the published ones."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmquad.checks.data_trees import check_ade20k, check_coco, check_imagenet
from mmquad.datasets import generate_shapes_ade, generate_shapes_coco, generate_shapes_imagenet

TOOL = Path(__file__).parents[2] / "tools" / "dataset_tools" / "check_data.py"


def wrong(findings) -> dict[str, str]:
    return {f.part: f.detail for f in findings if not f.ok}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    generate_shapes_ade(root / "ade20k", 3, 2)
    generate_shapes_coco(root / "coco", 3, 2)
    generate_shapes_imagenet(root / "imagenet", 8, 4)
    return root


@pytest.fixture
def tree(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "data"))


def test_a_small_ade20k_lacks_images_only(tree: Path):
    root = tree / "ade20k"
    found = wrong(check_ade20k(root))
    assert len(found) == 4
    assert found[str(root / "images/training")] == "3 .jpg, expected 20,210"
    assert found[str(root / "annotations/validation")] == "2 .png, expected 2,000"


def test_ade20k_pairs_and_label_maps(tree: Path):
    root = tree / "ade20k"
    (root / "annotations/training/ADE_train_00000002.png").unlink()
    labels = root / "annotations/training/ADE_train_00000001.png"
    cv2.imwrite(str(labels), np.full((5, 5, 3), 200, dtype=np.uint8))
    (root / "images/validation/ADE_val_00000001.jpg").write_bytes(b"no image")
    found = wrong(check_ade20k(root))
    assert found["training: pairs"] == "1 without partner, e.g. ['ADE_train_00000002']"
    assert "this is the full ADE20K" in found["ADE_train_00000001.png"]
    assert "ADE_val_00000001.jpg" in found["sample of images"]


def test_coco(tree: Path):
    root = tree / "coco"
    (root / "val2017/000001000001.jpg").unlink()
    (root / "annotations/instances_train2017.json").write_text('{"images": [')
    found = wrong(check_coco(root))
    listed = f"{root / 'val2017'}: images listed in instances_val2017.json"
    assert found[listed] == "1 are missing, e.g. ['000001000001.jpg']"
    assert "download it again" in found[str(root / "annotations/instances_train2017.json")]
    assert found["instances_val2017.json: categories"] == "4 categories, expected 80"
    shutil.rmtree(root / "val2017")
    assert "missing; expected 5,000" in wrong(check_coco(root))[str(root / "val2017")]


def test_imagenet(tree: Path):
    root = tree / "imagenet"
    found = wrong(check_imagenet(root))
    assert found[f"{root / 'train'}: class folders"] == "4 folders, expected 1,000"
    assert found[f"{root / 'val'}: images"] == "4 images, expected 50,000"
    for path in list((root / "val").glob("*/*.JPEG")):
        path.rename(root / "val" / path.name)
    for folder in [p for p in (root / "val").iterdir() if p.is_dir()]:
        folder.rmdir()
    assert "has no class folders" in wrong(check_imagenet(root))[str(root / "val")]
    (root / "meta").mkdir()
    (root / "meta/val.txt").write_text("00000001.JPEG 0\nabsent.JPEG 1\n")
    found = wrong(check_imagenet(root))
    images = f"{root / 'val'}: images of val.txt"
    assert found[images] == "missing 1 of its images, e.g. ['absent.JPEG']"


def test_a_complete_tree_is_said_to_be(tree: Path, monkeypatch, capsys):
    """With the published counts replaced by those of the generated data."""
    annotations = json.loads((tree / "coco/annotations/instances_val2017.json").read_text())
    assert len(annotations["images"]) == 2
    monkeypatch.setattr("mmquad.checks.data_trees._count", accept)
    run(monkeypatch, "coco", "--root", str(tree / "coco"))
    printed = capsys.readouterr().out
    assert printed.endswith(f"{tree / 'coco'} is complete.\n")
    assert "WRONG" not in printed


def accept(part: str, found: int, expected: int, unit: str):
    from mmquad.checks.data_trees import Finding

    return Finding(found > 0, part, f"{found} {unit}")


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [TOOL.name, *arguments])
    runpy.run_path(str(TOOL), run_name="__main__")


def test_the_tool_counts_what_is_wrong(tree: Path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"4 things are wrong with .*ade20k"):
        run(monkeypatch, "ade20k", "--root", str(tree / "ade20k"))
    assert capsys.readouterr().out.count("WRONG") == 4
    with pytest.raises(SystemExit, match=r"is missing \(looked from"):
        run(monkeypatch, "ade20k", "--root", str(tree / "nothing"))
