"""Labels that mean other classes than their names are found, whatever the library."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmquad.checks import class_labels
from mmquad.checks.class_labels import (
    check_classes,
    check_dataset,
    check_metric,
    misplaced,
    read_categories,
)

KEY = "train_dataloader.dataset"


def coco_file(path: Path, names: Sequence[str], **more) -> Path:
    """One image, one object of each category, ids in the order of names."""
    ids = range(1, 1 + len(names))
    same = {"image_id": 1, "area": 64, "iscrowd": 0}
    boxes = [same | {"id": i, "category_id": i, "bbox": [4 * i, 4, 8, 8]} for i in ids]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 32, "width": 64}],
        "annotations": boxes,
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    }
    path.write_text(json.dumps(content | more))
    return path


def coco_dataset(path: Path, classes: object, kind: str = "CocoDataset", **more):
    from mmdet.registry import DATASETS

    config = {"type": kind, "ann_file": str(path), "metainfo": {"classes": classes}}
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config | {"pipeline": [], "data_prefix": {"img": ""}} | more)


def found(dataset: object) -> list[tuple[str, str]]:
    return list(check_dataset(dataset, KEY))


@pytest.mark.parametrize(
    ("labels", "classes", "wrong"),
    [
        ({0: "a", 1: "b"}, "ab", {}),
        ({0: "a"}, "ab", {}),
        ({0: "b"}, "ab", {0: "b"}),
        ({0: "b", 1: "a"}, "ab", {0: "b", 1: "a"}),
        ({0: "a", 5: "b"}, "ab", {5: "b"}),
        ({0: "x", 1: "b"}, "ab", {}),  # another name: nobody knows
        ({2: "c", 3: "c"}, "abcc", {}),  # ImageNet has two cranes
        ({0: "c", 3: "c"}, "abcc", {0: "c"}),
    ],
)
def test_misplaced(labels: dict, classes: str, wrong: dict):
    assert misplaced(labels, tuple(classes)) == wrong


@pytest.mark.parametrize(
    ("names", "classes", "check", "said"),
    [
        ("ab", "ab", None, ""),
        ("abc", "ab", None, ""),  # a choice of classes
        ("xab", "ab", None, ""),
        ("ba", "ab", "labels", r"label 0: 'b' here, 'a'\n  label 1: 'a' here, 'b'"),
        ("bxa", "ab", "labels", "label 0: 'b' here, 'a'"),
        (
            "ab",
            "abc",
            "class-names",
            r"1 of the 3 classes .*: c\. Of its categories, none are none",
        ),
        ("abd", "abc", "class-names", r"1 of the 3 classes .*: c\. Of its categories, d are none"),
        ("bc", "abc", "labels", r"(?s)label 0: 'b' here, 'a'.*lack a, which moves all after them"),
        ("ac", "abc", "labels", "label 1: 'c' here, 'b'"),
        ("aab", "ab", "labels", "several categories of the name a: each gets a label of its own"),
        ("xxab", "ab", None, ""),  # not of the run
        ("xy", "ab", "labels", r"None of the 2 classes .*classes are a, b, the categories x, y\."),
    ],
)
def test_classes_beside_an_annotation_file(
    tmp_path: Path, names: str, classes: str, check: str | None, said: str
):
    path = coco_file(tmp_path / "a.json", names)
    problems = found(coco_dataset(path, tuple(classes)))
    assert [problem.check for problem in problems] == [check] * bool(check)
    for _, message in problems:
        assert re.search(said, message)
        assert str(path) in message
        assert KEY in message


def test_ids_do_not_matter_only_the_order_of_the_file(tmp_path: Path):
    categories = [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}]
    path = coco_file(tmp_path / "a.json", "ab", categories=categories)
    assert found(coco_dataset(path, ("a", "b"))) == []
    assert found(coco_dataset(path, ("b", "a")))[0].check == "labels"
    # this one sorts by id
    assert found(coco_dataset(path, ("b", "a"), "Objects365V1Dataset")) == []
    assert found(coco_dataset(path, ("a", "b"), "Objects365V1Dataset"))[0].check == "labels"


@pytest.mark.parametrize(
    ("cat2label", "ann_file"),
    [
        ([1, 2], "a.json"),  # no mapping
        ({1: "b", 2: "a"}, "a.json"),  # not to labels
        ({"b": 0, "a": 1}, "a.json"),  # from names, as VOC's, not from the file's ids
        ({1: 1, 3: 0}, "a.json"),  # from ids of which the file lacks one
        ({1: 1, 2: 0}, "a.txt"),  # no file of COCO's
        ({1: 1, 2: 0}, None),
    ],
)
def test_dialects_that_number_labels_by_themselves(
    tmp_path: Path, cat2label: object, ann_file: str | None
):
    coco_file(tmp_path / "a.json", "ab")
    path = ann_file and str(tmp_path / ann_file)
    metainfo = {"classes": ("a", "b")}
    dialect = SimpleNamespace(metainfo=metainfo, cat2label=cat2label, ann_file=path)
    assert found(dialect) == []
    own = SimpleNamespace(
        metainfo=metainfo, cat2label={1: 1, 2: 0}, ann_file=str(tmp_path / "a.json")
    )
    assert [problem.check for problem in found(own)] == ["labels"]


def test_perfect_detections_score_zero_against_a_file_in_another_order(tmp_path: Path):
    """What the check is for, and that it finds it in the metric, the data or both."""
    import torch
    from mmdet.evaluation import CocoMetric

    files = [coco_file(tmp_path / f"{names}.json", names) for names in ("ab", "ba")]
    train = coco_dataset(files[0], ("a", "b"))
    instances = train[0]["instances"]
    scores = []
    for path in files:
        metric = CocoMetric(ann_file=str(path), metric="bbox")
        metric.dataset_meta = train.metainfo
        boxes = torch.tensor([each["bbox"] for each in instances], dtype=torch.float32)
        # the object drawn at each place is of the category of its file
        labels = torch.tensor([each["bbox_label"] for each in instances])
        names = [train.metainfo["classes"][label] for label in labels]
        there = {c["name"]: c["id"] for c in read_categories(path)}
        truth = {a["category_id"]: a["bbox"] for a in json.loads(path.read_text())["annotations"]}
        corner = torch.tensor([truth[there[name]] for name in names], dtype=torch.float32)
        corner[:, 2:] += corner[:, :2]
        prediction = {"bboxes": corner, "scores": torch.ones(len(boxes)), "labels": labels}
        metric.process({}, [{"img_id": 1, "ori_shape": (32, 64), "pred_instances": prediction}])
        scores.append(metric.evaluate(size=1)["coco/bbox_mAP"])
        problems = list(check_metric(metric, train.metainfo["classes"], "val_evaluator"))
        assert [problem.check for problem in problems] == ["labels"] * (path == files[1])
    assert scores == [1.0, 0.0]
    assert found(coco_dataset(files[1], ("a", "b")))[0].check == "labels"


def test_metrics_without_a_file_and_of_lvis(tmp_path: Path):
    assert list(check_metric(SimpleNamespace(), ("a",), "val_evaluator")) == []
    assert list(check_metric(SimpleNamespace(_coco_api=None), ("a",), "val_evaluator")) == []
    content = {"categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "a"}]}
    api = SimpleNamespace(dataset=content)
    # COCO's is asked for the names of the classes, LVIS's for all it has
    assert list(check_metric(SimpleNamespace(_coco_api=api), ("a",), "e")) == []
    (problem,) = check_metric(SimpleNamespace(_lvis_api=api), ("a",), "e")
    assert problem.check == "labels"
    assert "e.ann_file" in problem.message


@pytest.mark.parametrize(
    ("names", "classes", "check"),
    [
        ("ab", "ab", None),
        ("abx", "ab", "labels"),  # a label that is no class
        ("xy", "ab", "class-names"),  # maybe other names of the same classes
        ("cc", "cc", None),  # two of one name on both sides
        ("cca", "ca", "labels"),
    ],
)
def test_lvis_takes_all_categories(names: str, classes: str, check: str | None):
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    api = SimpleNamespace(dataset={"categories": categories})
    problems = list(check_metric(SimpleNamespace(_lvis_api=api), tuple(classes), "e"))
    assert [problem.check for problem in problems] == [check] * bool(check)


def test_parts_of_a_concatenation(tmp_path: Path):
    from mmdet.datasets import ConcatDataset

    whole = coco_file(tmp_path / "abc.json", "abc")
    first = coco_file(tmp_path / "ab.json", "ab")
    last = coco_file(tmp_path / "bc.json", "bc")

    def checks(*paths: Path) -> list[str]:
        parts = [coco_dataset(path, tuple("abc")) for path in paths]
        wrapped = SimpleNamespace(metainfo=parts[0].metainfo, dataset=ConcatDataset(parts))
        return [problem.check for problem in found(wrapped)]

    assert checks(whole, whole) == []
    assert checks(whole, first) == ["class-names"]
    assert checks(whole, last) == ["labels"]
    assert checks(last, first, last) == ["labels", "class-names", "labels"]
    odd = SimpleNamespace(metainfo={"classes": ("b", "a")})
    mixed = SimpleNamespace(metainfo={"classes": ("a", "b")}, datasets=[odd])
    assert [problem.check for problem in found(mixed)] == ["labels"]


def test_one_class_without_its_comma(tmp_path: Path):
    (problem,) = found(SimpleNamespace(metainfo={"classes": "cat"}))
    assert problem.check == "labels"
    assert "train_dataloader.dataset.metainfo=dict(classes=[...])" in problem.message


@pytest.mark.parametrize("metainfo", [None, {}, {"classes": None}, {"classes": ()}])
def test_data_without_classes(metainfo: dict | None):
    assert found(SimpleNamespace(metainfo=metainfo, cat2label={1: 0}, ann_file="gone.json")) == []
    assert found(SimpleNamespace()) == []


def test_labels_of_other_kinds_are_not_judged(tmp_path: Path):
    """Only a ``cat2label`` of numbers, beside a file in COCO's format, can be compared with it."""
    path = coco_file(tmp_path / "a.json", "ab")
    swapped = {"metainfo": {"classes": ("b", "a")}, "ann_file": str(path)}
    assert found(SimpleNamespace(**swapped, cat2label={1: 0, 2: 1})) != []
    assert found(SimpleNamespace(**swapped, cat2label={1: (0, 1), 2: (1, 0)})) == []
    text = path.with_suffix(".txt")
    text.write_text(path.read_text())  # whatever it holds, it is read in some other way
    swapped["ann_file"] = str(text)
    assert found(SimpleNamespace(**swapped, cat2label={1: 0, 2: 1})) == []


def test_folders_are_numbered_by_their_names(tmp_path: Path):
    from mmpretrain.datasets import CustomDataset

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), np.zeros((4, 4, 3), np.uint8))
    folders = {"data_root": str(tmp_path), "pipeline": []}
    assert found(CustomDataset(**folders)) == []
    for classes in (("cat", "dog"), ("n01440764", "n01443537"), ("tench", "goldfish")):
        assert found(CustomDataset(**folders, metainfo={"classes": classes})) == []
    (problem,) = found(CustomDataset(**folders, metainfo={"classes": ("dog", "cat")}))
    assert problem.check == "labels"
    assert "label 0: 'cat' here, 'dog'" in problem.message
    # a part of a concatenation has folders of its own, and maybe names of its own
    part = SimpleNamespace(metainfo={"classes": ("dog", "cat")}, folder_to_idx={"cat": 0, "dog": 1})
    whole = SimpleNamespace(metainfo={"classes": ("x", "y")}, datasets=[part])
    assert [problem.check for problem in found(whole)] == ["class-names", "labels"]
    # a split that lacks a folder: all after it move
    train, val = CustomDataset(**folders), CustomDataset(**folders)
    val._metainfo["classes"] = ("dog",)
    compared = check_classes(val.metainfo["classes"], "val", train.metainfo["classes"], "train")
    assert [problem.check for problem in compared] == ["labels"]


def test_classes_of_two_data_sets():
    assert list(check_classes("ab", "val", "abc", "train")) == []
    (swapped,) = check_classes("ba", "val", "ab", "train")
    assert swapped.check == "labels"
    assert "Labels of val mean other classes than in train" in swapped.message
    (renamed,) = check_classes("ax", "val", "ab", "train")
    assert renamed.check == "class-names"
    assert "1 of the 2 classes of val are not among the 2 of train: x;" in renamed.message
    (strange,) = check_classes("xyz", "val", "ab", "train")
    assert strange.check == "class-names"
    many = [str(i) for i in range(9)]
    (long,) = check_classes(many[::-1], "val", many, "train")
    assert "and 4 more" in long.message  # the one in the middle is right


def test_categories_are_read_without_parsing_the_file(tmp_path: Path, monkeypatch):
    path = coco_file(tmp_path / "a.json", "ab")
    expected = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = json.loads(path.read_text())
    first = tmp_path / "first.json"
    first.write_text(json.dumps({"categories": expected} | content, indent=1))
    unicode = tmp_path / "unicode.json"
    long = [{"id": i, "name": "ä€" * 500} for i in range(1000)]  # longer than a piece
    unicode.write_text(json.dumps({"categories": long}, ensure_ascii=False))
    # the word once more, behind the list and before it
    word, twice = {"images": [{"kind": "categories"}]}, [tmp_path / "1.json", tmp_path / "2.json"]
    twice[0].write_text(json.dumps({"categories": expected} | word))
    twice[1].write_text(json.dumps(word | {"categories": expected}))
    with monkeypatch.context() as patch:
        patch.setattr(class_labels.json, "loads", pytest.fail)
        assert read_categories(path) == read_categories(first) == expected
        assert read_categories(twice[0]) == read_categories(twice[1]) == expected
        assert read_categories(unicode) == long
        # the same word elsewhere
        tricky = tmp_path / "tricky.json"
        images = [{"id": 1, "categories": [{"kind": "x"}], "note": '"categories": ['}]
        tricky.write_text(json.dumps({"categories": expected, "images": images}))
        assert read_categories(tricky) == expected
    tricky.write_text(json.dumps({"images": images, "categories": expected, "licenses": images}))
    assert read_categories(tricky) == expected
    for content in ({"images": []}, {"categories": []}, [1]):
        tricky.write_text(json.dumps(content))
        assert read_categories(tricky) == []
