"""Own data: what is in it, what is wrong with it, and the config that comes of it."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmquad.cli import main
from mmquad.compat import load_config
from mmquad.datasets import generate_shapes_coco, generate_shapes_imagenet
from mmquad.errors import SetupError
from mmquad.own_data import describe, images_in_both, new_config, read_class_folders, read_coco
from mmquad.own_data.new_config import class_overrides

DETECTOR = "mask-rcnn_quadmamba-demo_fpn_shapes"
CLASSIFIER = "quadmamba-demo_shapes"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shapes_coco(tmp_path_factory.mktemp("coco"), 5, 3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shapes_imagenet(tmp_path_factory.mktemp("classes"), 8, 4)


def annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}2017.json"


def splits(root: Path) -> tuple:
    return tuple(read_coco(annotations(root, s), root / f"{s}2017") for s in ("train", "val"))


def hashes(root: Path) -> dict[Path, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_counts_are_those_of_the_file(shapes: Path):
    before = hashes(shapes)
    train, _ = splits(shapes)
    content = json.loads(annotations(shapes, "train").read_text())
    assert train.classes == tuple(c["name"] for c in content["categories"])
    assert sum(train.counts.values()) == train.masks == len(content["annotations"])
    assert train.crowds == sum(a["iscrowd"] for a in content["annotations"])
    assert len(train.images) == 5
    assert train.faults == []
    told = describe(train)
    assert f"   0  disc       {train.counts['disc']}" in told
    assert hashes(shapes) == before


def edited(root: Path, tmp_path: Path, change) -> tuple[Path, Path]:
    """Copies of the annotation file, changed, and of the images."""
    content = json.loads(annotations(root, "train").read_text())
    images = tmp_path / "images"
    shutil.copytree(root / "train2017", images)
    change(content, images)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json", images


def wrong(content: dict, images: Path) -> None:
    first, second, *_ = content["images"]
    for number, item in enumerate(
        [
            {"category_id": 99, "image_id": first["id"], "bbox": [0, 0, 5, 5]},
            {"category_id": 1, "image_id": 9999, "bbox": [0, 0, 5, 5]},
            {"category_id": 1, "image_id": first["id"], "bbox": [3, 3, 0, 5]},
            {"category_id": 1, "image_id": first["id"], "bbox": [5000, 3, 9, 5]},
            {"category_id": 1, "image_id": first["id"], "bbox": [-9, 3, 20, 5]},
        ]
    ):
        content["annotations"].append({"id": 1000 + number, **item})
    (images / second["file_name"]).write_bytes(b"")
    content["images"].append({"id": 77, "file_name": "größe.jpg", "height": 9, "width": 9})
    content["images"].append({"id": 77, "file_name": first["file_name"], "height": 9, "width": 9})


def test_every_fault_has_its_kind_and_place(shapes: Path, tmp_path: Path):
    labels = read_coco(*edited(shapes, tmp_path, wrong))
    found = {fault.kind: fault.place for fault in labels.faults}
    assert found["no category 99"] == "annotation 1000"
    assert found["an image that does not exist"] == "annotation 1001"
    assert found["a box without area"] == "annotation 1002"
    assert found["a box outside its image"] == "annotation 1003"
    assert found["a box that sticks out of its image"] == "annotation 1004"
    assert found["a name that is not ASCII"] == "größe.jpg"
    assert found["two images of one id"].startswith("id 77")
    unreadable = [f.place for f in labels.faults if f.kind == "an image that cannot be read"]
    assert len(unreadable) == 2
    assert "empty (0 bytes)" in unreadable[0]
    told = describe(labels)
    assert "1 x a box without area: annotation 1002" in told
    assert "2 x an image that cannot be read" in told
    clean = read_coco(annotations(shapes, "train"), shapes / "train2017")
    # The four labels that cannot be used are not counted, the one that sticks out is.
    assert sum(labels.counts.values()) == sum(clean.counts.values()) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, _: c["categories"][1].update(name="disc"), r"categories of one name: 'disc'"),
        (lambda c, _: c["categories"][1].update(id=1), r"categories of one id: 1"),
        (lambda c, _: c.pop("categories"), "it has no categories"),
    ],
)
def test_what_would_change_labels_is_an_error(shapes: Path, tmp_path: Path, change, message: str):
    file, images = edited(shapes, tmp_path, change)
    with pytest.raises(SetupError, match=message):
        read_coco(file, images)
    file.write_text("{")
    with pytest.raises(SetupError, match="cannot be used"):
        read_coco(file, images)
    with pytest.raises(SetupError, match="is missing"):
        read_coco(tmp_path / "absent.json", images)


def test_the_config_of_a_detector(shapes: Path, tmp_path: Path):
    train, val = splits(shapes)
    places = [shapes / "train2017", shapes / "val2017"]
    base = load_config("configs/mmdet/quadmamba/mask-rcnn_quadmamba-tiny_fpn_1x_coco.py")
    text = new_config(
        "mask-rcnn_quadmamba-tiny_fpn_1x_coco", train, val, folders=places, gpus=2, epochs=6
    )
    (tmp_path / "mine.py").write_text(text)
    cfg = load_config(str(tmp_path / "mine.py"))
    heads = cfg.model.roi_head
    assert heads.bbox_head.num_classes == heads.mask_head.num_classes == 4
    for loader, labels in ((cfg.train_dataloader, train), (cfg.val_dataloader, val)):
        assert loader.dataset.metainfo.classes == labels.classes
        assert loader.dataset.ann_file == str(labels.source)
    assert cfg.val_evaluator.ann_file == cfg.test_dataloader.dataset.ann_file == str(val.source)
    assert cfg.val_evaluator.metric == ["bbox", "segm"]
    # Two GPUs of two images; the base's rate is for sixteen.
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(base.optim_wrapper.optimizer.lr / 4)
    assert cfg.auto_scale_lr.base_batch_size == 4
    assert cfg.train_cfg.max_epochs == 6
    assert cfg.param_scheduler[1].milestones == [4, 6]
    assert cfg.param_scheduler[0].end == 1, "a tenth of six epochs of one step, at least one"
    assert len(text.splitlines()) < 60


def test_labels_are_those_of_the_pixels(shapes: Path, tmp_path: Path):
    """Through mmdet's own data set: a box's label names the category that the file gives it."""
    from mmdet.registry import DATASETS

    train, val = splits(shapes)
    places = [shapes / "train2017", shapes / "val2017"]
    (tmp_path / "mine.py").write_text(new_config(DETECTOR, train, val, folders=places))
    cfg = load_config(str(tmp_path / "mine.py"))
    init_default_scope("mmdet")
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    content = json.loads(annotations(shapes, "val").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        theirs = [a for a in content["annotations"] if a["image_id"] == info["img_id"]]
        told = {
            tuple(np.round(item["bbox"]).astype(int)): train.classes[item["bbox_label"]]
            for item in info["instances"]
        }
        for item in theirs:
            x, y, w, h = item["bbox"]
            box = tuple(np.round([x, y, x + w, y + h]).astype(int))
            assert told[box] == names[item["category_id"]]


def test_files_without_masks_train_boxes_only(shapes: Path, tmp_path: Path):
    def without(content: dict, _: Path) -> None:
        for item in content["annotations"]:
            item.pop("segmentation")

    labels = read_coco(*edited(shapes, tmp_path, without))
    images = [tmp_path / "images"] * 2
    (tmp_path / "mine.py").write_text(new_config(DETECTOR, labels, labels, folders=images))
    cfg = load_config(str(tmp_path / "mine.py"))
    assert cfg.model.roi_head.mask_head is None
    assert cfg.val_evaluator.metric == ["bbox"]
    steps = [*cfg.train_dataloader.dataset.pipeline, *cfg.val_dataloader.dataset.pipeline]
    assert [s.with_mask for s in steps if s.type == "LoadAnnotations"] == [False, False]


def test_splits_that_do_not_fit(shapes: Path, tmp_path: Path):
    train, val = splits(shapes)
    backwards = type(val)(val.source, val.classes[::-1], val.images, val.counts)
    with pytest.raises(SetupError, match="other classes, or in another order"):
        new_config(DETECTOR, train, backwards)
    with pytest.raises(SetupError, match="no labelled image that can be read"):
        new_config(DETECTOR, train, type(val)(val.source, val.classes))
    with pytest.raises(SetupError, match="folders of the training and validation images"):
        new_config(DETECTOR, train, val)
    with pytest.raises(SetupError, match="new-config knows mmdet and mmpretrain"):
        new_config("upernet_quadmamba-demo_shapes", train, val)


def test_the_same_image_in_both_splits(tmp_path: Path):
    for name, value in (("a", 1), ("b", 2), ("c", 1)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((9, 9, 3), value, dtype=np.uint8))
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    assert images_in_both([a, b], [c]) == [(a, c)]


def test_heads_of_all_kinds():
    model = {
        "bbox_head": {"num_classes": 80, "loss": {"type": "X"}},
        "panoptic_head": {"num_things_classes": 80, "num_stuff_classes": 53},
        "roi_head": {"bbox_head": [{"num_classes": 80, "reg": 1}, {"num_classes": 80, "reg": 2}]},
        "backbone": {"depth": 1},
    }
    assert class_overrides(model, 3) == {
        "bbox_head": {"num_classes": 3},
        "panoptic_head": {"num_things_classes": 3, "num_stuff_classes": 0},
        "roi_head": {"bbox_head": [{"num_classes": 3, "reg": 1}, {"num_classes": 3, "reg": 2}]},
    }


def test_faults_of_class_folders(folders: Path, tmp_path: Path):
    shutil.copytree(folders / "train", tmp_path / "train")
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "disc" / "broken.jpg").write_bytes(b"no image")
    labels = read_class_folders(tmp_path / "train")
    assert labels.classes == ("disc", "empty", "rectangle", "star", "triangle")
    assert {fault.kind for fault in labels.faults} == {
        "a class without an image",
        "an image that cannot be read",
    }
    assert labels.counts["disc"] == 2
    with pytest.raises(SetupError, match="is missing"):
        read_class_folders(tmp_path / "absent")
    with pytest.raises(SetupError, match="no images in folders of their classes"):
        read_class_folders(tmp_path / "train" / "disc")


@pytest.mark.slow
def test_from_folders_to_a_tested_classifier(folders: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--train", str(folders / "train"), "--val", str(folders / "val")]
    main(["new-config", "--base", CLASSIFIER, *data, "--epochs", "1", "--check"])
    assert not Path("own_data.py").exists()
    main(["new-config", "--base", CLASSIFIER, *data, "--epochs", "1", "--batch-size", "4"])
    assert "own_data.py: mmquad train own_data.py" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="exists already"):
        main(["new-config", "--base", CLASSIFIER, *data])
    small = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
    small += ["model.backbone.arch.depths=(1,1,1,1)"]
    main(["train", "own_data.py", "--work-dir", "run", "--cfg-options", *small])
    weights = torch.load("run/epoch_1.pth", weights_only=False)["state_dict"]
    assert weights["head.fc.weight"].shape[0] == 4
    main(["test", "run/own_data.py", "run/epoch_1.pth", "--work-dir", "tested"])
