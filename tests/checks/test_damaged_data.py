"""Damaged images, annotation files and wrong class counts end in messages that name them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.registry import DefaultScope
from torch import nn

from mmquad.checks.damaged_data import annotation_problem
from mmquad.datasets import generate_shapes_coco, generate_shapes_imagenet
from mmquad.engine.launch import Plan, plan_training, run_training
from mmquad.errors import OneProcessError, SetupError
from mmquad.hooks.class_check import ClassCheckHook, _check_categories

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSIFIER = CONFIGS / "mmpretrain/quadmamba/quadmamba-demo_shapes.py"
DETECTOR = CONFIGS / "mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py"


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """Plans the training of a tiny classifier for one epoch, data and checkpoints in tmp_path."""
    data = generate_shapes_imagenet(tmp_path / "data", 4, 4)
    options = {
        "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)},
        "model.backbone.out_indices": (1,),
        "model.head.in_channels": 16,
        "custom_hooks": [{"type": "mmquad.ClassCheckHook"}],
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 2,
    }

    def make(**more) -> Plan:
        cfg_options = options | {key.replace("__", "."): value for key, value in more.items()}
        work_dir = str(tmp_path / "work")
        return plan_training(
            str(CLASSIFIER), work_dir=work_dir, data_root=str(data), cfg_options=cfg_options
        )

    return make


def test_training_on_damaged_images_names_all_of_them(plan: Callable[..., Plan], tmp_path: Path):
    images = sorted((tmp_path / "data/train").rglob("*.JPEG"))
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:200])
    with pytest.raises(OneProcessError) as raised:
        run_training(plan())
    message = str(raised.value)
    assert message.startswith("2 images cannot be read:")
    assert f"{images[0]}: empty (0 bytes)" in message
    assert f"{images[1]}: cut off after 200 bytes" in message


def test_another_number_of_classes_than_the_head_has(plan: Callable[..., Plan]):
    with pytest.raises(SetupError, match=r"(?s)has 4 classes \(.*head \(LinearClsHead\).*=7"):
        run_training(plan(model__head__num_classes=7))


def test_validation_data_are_looked_at_before_the_first_epoch():
    head = nn.Linear(1, 1)
    head.num_classes = 4
    runner = SimpleNamespace(model=nn.ModuleDict({"head": head}), val_loop=None)
    four, five = (SimpleNamespace(metainfo={"classes": "abcde"[:n]}) for n in (4, 5))
    runner.train_dataloader = SimpleNamespace(dataset=four)
    ClassCheckHook().before_train(runner)
    runner.val_loop, runner.val_dataloader = object(), SimpleNamespace(dataset=five)
    with pytest.raises(SetupError, match="data of val_dataloader has 5 classes"):
        ClassCheckHook().before_train(runner)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"<html></html>", "no JSON dictionary"),
        (b'{"images": [], "annota', "cut off after 22 bytes"),
        (b'{"images": [}', "no valid JSON"),
        (b'{"images": [], "annotations": [1]}', "no images, no categories"),
        (b'{"images": [1], "annotations": [1], "categories": [1]}', None),
    ],
)
def test_annotation_files(tmp_path: Path, content: bytes, problem: str | None):
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    found = annotation_problem(path)
    assert found is None if problem is None else re.search(problem, found)


def test_empty_annotations_stop_a_run_before_it_is_built(tmp_path: Path):
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


def test_classes_that_the_annotation_file_lacks(tmp_path: Path):
    from mmdet.datasets import CocoDataset

    data = generate_shapes_coco(tmp_path / "coco", 2, 2)
    ann_file = str(data / "annotations/instances_train2017.json")
    names = [category["name"] for category in json.loads(Path(ann_file).read_text())["categories"]]
    with DefaultScope.overwrite_default_scope("mmdet"):
        for classes in (names, names[:2]):
            dataset = CocoDataset(
                ann_file=ann_file,
                metainfo={"classes": classes},
                pipeline=[],
                data_prefix={"img": ""},
            )
            _check_categories(dataset, classes, "train_dataloader")
        classes = (*names[:2], "disk")
        dataset = CocoDataset(
            ann_file=ann_file, metainfo={"classes": classes}, pipeline=[], data_prefix={"img": ""}
        )
        with pytest.raises(SetupError, match=r"1 classes of train_dataloader .*\['disk'\]"):
            _check_categories(dataset, classes, "train_dataloader")
