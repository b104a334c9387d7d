"""Annotation files that nobody could read are refused; those of other dialects are not."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmquad.checks.annotation_files import COCO_TYPES, annotation_problem, check_annotations
from mmquad.datasets import generate_shapes_coco
from mmquad.engine.launch import plan_training
from mmquad.errors import SetupError

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTOR = CONFIGS / "mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py"
COCO = {"images": [1], "annotations": [1], "categories": [1]}
MULTI_LABEL = {
    "metainfo": {"classes": ["a"]},
    "data_list": [{"img_path": "1.jpg", "gt_label": [0]}],
}
LINES = '{"filename": "1.jpg"}\n{"filename": "2.jpg"}\n'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", b"", "it is empty (0 bytes)"),
        ("a.txt", b"", "it is empty (0 bytes)"),
        ("a.json", b"<!DOCTYPE html>", "it is a web page"),
        ("a.txt", b"<html></html>", "it is a web page"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        ("a.json", b"images: 3", "it is no JSON, it begins with"),
        ("a.json", b'{"images": [], "annota', "it is cut off after 22 bytes"),
        ("a.json", b'{"images": [}', "it is no valid JSON"),
        ("a.jsonl", b'{"a": 1}\n{"b"}', "its line 2 is no valid JSON"),
        ("a.jsonl", LINES[:-3].encode(), "it is cut off after"),
        ("a.json", json.dumps(COCO).encode(), None),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(COCO).encode(), None),
        ("a.json", json.dumps(MULTI_LABEL).encode(), None),
        ("a.json", b"[]", None),
        ("a.json", LINES.encode(), None),
        ("a.jsonl", LINES.encode(), None),
        ("a.jsonl", LINES.encode()[:22], None),
        ("a.jsonl", (LINES + "\n" + LINES).encode(), None),  # an empty line
        ("a.xml", b"<annotation></annotation>", None),
        ("a.txt", b"{ a list that begins so", None),
        ("a.pkl", b"\x80\x04", None),
    ],
)
def test_what_no_reader_could_use(tmp_path: Path, name: str, content: bytes, problem: str | None):
    path = tmp_path / name
    path.write_bytes(content)
    found = annotation_problem(path)
    assert found is None if problem is None else str(found).startswith(problem)


def look(tmp_path: Path, content: object, *, split: str = "train", **dataset) -> list[str]:
    """Warnings for a file that a data set reads."""
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    metric = dataset.pop("metric", {"type": "CocoMetric"})
    dataset = {"type": "CocoDataset", "ann_file": str(path)} | dataset
    key = f"{split}_dataloader"
    cfg = Config({key: {"dataset": dataset}, f"{split}_evaluator": metric})
    warned: list[str] = []
    check_annotations(cfg, (split,), warned.append)
    return warned


@pytest.mark.parametrize("absent", ["images", "categories"])
@pytest.mark.parametrize("kind", ["CocoDataset", "mmdet.LVISV1Dataset"])
def test_coco_needs_images_and_categories(tmp_path: Path, absent: str, kind: str):
    for content in ({**COCO, absent: []}, {k: v for k, v in COCO.items() if k != absent}):
        with pytest.raises(
            SetupError, match=rf"train_dataloader.dataset.ann_file\): .*no {absent}"
        ):
            look(tmp_path, content, type=kind)
    with pytest.raises(SetupError, match="it holds a list"):
        look(tmp_path, [1], type=kind)


@pytest.mark.parametrize("content", [MULTI_LABEL, [1], LINES, {"a": []}], ids=str)
@pytest.mark.parametrize("kind", ["MultiLabelDataset", "ODVGDataset", "MyDataset"])
def test_other_dialects_pass(tmp_path: Path, content: object, kind: str):
    assert look(tmp_path, content, type=kind) == []


def test_files_without_annotations(tmp_path: Path):
    """Of test-dev, unlabelled images, or forgotten: who knows."""
    for content in ({**COCO, "annotations": []}, {"images": [1], "categories": [1]}):
        (warning,) = look(tmp_path, content)
        assert "no annotations:" in warning
        assert "a.json (train_dataloader.dataset.ann_file)" in warning
        (warning,) = look(tmp_path, content, split="test")
        assert "(test_dataloader.dataset.ann_file)" in warning
        assert "format_only=True" in warning
        silent = {"type": "CocoMetric", "format_only": True}
        assert look(tmp_path, content, split="test", metric=silent) == []
        assert look(tmp_path, content, split="test", metric=[silent]) == []
        assert look(tmp_path, content, split="test", metric=[]) == []
        assert look(tmp_path, content, type="MyDataset") == []
        unlabelled = [{"type": "LoadImageFromFile"}, {"type": "mmdet.LoadEmptyAnnotations"}]
        assert len(look(tmp_path, content, pipeline=[{"type": "mmdet.LoadAnnotations"}])) == 1
        assert look(tmp_path, content, pipeline=unlabelled[:1]) == []
    assert look(tmp_path, COCO) == []


def test_the_types_are_those_of_mmdet():
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    found = {
        name
        for name, kind in DATASETS.module_dict.items()
        if issubclass(kind, CocoDataset) and kind.__module__.startswith("mmdet.")
    }
    assert found >= {"CocoDataset", "LVISV1Dataset"}
    assert found <= COCO_TYPES
    assert {name for name in COCO_TYPES if name in DATASETS} <= found


def test_empty_annotations_stop_a_run_before_it_is_built(tmp_path: Path, monkeypatch):
    data = generate_shapes_coco(tmp_path / "coco", 2, 2)
    options = {"data_root": str(data), "work_dir": str(tmp_path / "work")}
    plan_training(str(DETECTOR), **options)
    (data / "annotations/instances_train2017.json").write_bytes(b"")
    (data / "annotations/instances_val2017.json").write_text("{}")
    with pytest.raises(SetupError) as raised:
        plan_training(str(DETECTOR), **options)
    message = str(raised.value)
    assert "train2017.json (train_dataloader.dataset.ann_file): it is empty" in message
    assert "val2017.json (val_dataloader.dataset.ann_file): it has no images" in message
    monkeypatch.setenv("MMQUAD_CHECKS", "-annotation-files")
    plan_training(str(DETECTOR), **options)
