"""Missing data and checkpoints are named, all at once, before anything is built."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmquad.checks.data_paths import check_checkpoints, check_data, data_paths, set_data_root
from mmquad.errors import SetupError


def refuse(message: str) -> None:
    """Take the place of what shows warnings: here all is fact."""
    pytest.fail(message)


def coco(root: str = "data/coco", split: str = "train") -> dict:
    return {
        "type": "CocoDataset",
        "data_root": root,
        "ann_file": f"annotations/{split}.json",
        "data_prefix": {"img": split},
    }


def config(dataset: dict, **more) -> Config:
    return Config({"train_dataloader": {"dataset": dataset}, **more})


def listed(cfg: Config, splits: tuple[str, ...] = ("train",)) -> dict[str, str]:
    return {str(item.path): item.key for item in data_paths(cfg, splits)}


def make_coco(root: Path, split: str = "train") -> None:
    (root / split).mkdir(parents=True)
    (root / split / "1.jpg").touch()
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").touch()


def test_paths_are_found_inside_dataset_wrappers():
    wrapped = {
        "type": "MultiImageMixDataset",
        "dataset": {
            "type": "ConcatDataset",
            "datasets": [{"type": "RepeatDataset", "times": 2, "dataset": coco("a")}, coco("b")],
        },
    }
    prefix = "train_dataloader.dataset.dataset.datasets"
    assert listed(config(wrapped)) == {
        "a/annotations/train.json": f"{prefix}.0.dataset.ann_file",
        "a/train": f"{prefix}.0.dataset.data_prefix.img",
        "b/annotations/train.json": f"{prefix}.1.ann_file",
        "b/train": f"{prefix}.1.data_prefix.img",
    }


def test_paths_of_evaluators_and_of_the_asked_splits_only():
    cfg = config(
        coco(),
        val_dataloader={"dataset": coco(split="val")},
        val_evaluator=[{"type": "CocoMetric", "ann_file": "elsewhere/val.json"}, {"type": "Dump"}],
    )
    assert listed(cfg, ("val",)) == {
        "data/coco/annotations/val.json": "val_dataloader.dataset.ann_file",
        "data/coco/val": "val_dataloader.dataset.data_prefix.img",
        "elsewhere/val.json": "val_evaluator.ann_file",
    }
    assert listed(cfg, ("test",)) == {}


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (
            {"type": "ADE20KDataset", "data_root": "ade", "data_prefix": {"img_path": "images"}},
            {"ade/images"},
        ),
        ({"type": "ImageNet", "data_root": "imagenet", "split": "val"}, {"imagenet/val"}),
        ({"type": "CustomDataset", "data_prefix": "pets"}, {"pets"}),
        ({"type": "CIFAR10", "data_root": "cifar", "split": "train"}, set()),
        ({"type": "CocoDataset", "ann_file": "/a.json"}, {"/a.json"}),
        (coco("s3://bucket/coco"), set()),
        ({"type": "CIFAR10", "data_prefix": "cifar"}, set()),  # fetched where it is absent
        ({"type": "CIFAR10", "data_prefix": "cifar", "download": False}, {"cifar"}),
        ({"type": "COCOVQA", "ann_file": ["a.json", "b.json"]}, set()),
        ({"type": "ADE20KDataset", "data_prefix": {"img_path": "a", "seg_map_path": None}}, {"a"}),
    ],
)
def test_conventions_of_the_three_libraries(dataset: dict, expected: set[str]):
    assert set(listed(config(dataset))) == expected


@pytest.mark.parametrize("name", ["backend_args", "file_client_args"])
def test_what_a_file_client_reads_from_elsewhere_is_not_looked_for(name: str):
    """Its ``path_mapping`` makes ``data/`` a bucket; only the local backend reads local paths."""
    client = {"backend": "petrel", "path_mapping": {"data/": "s3://bucket/"}}
    read = {"type": "LoadImageFromFile"}
    for local in ({}, {name: None}, {name: {"backend": "local"}}, {name: {"backend": "disk"}}):
        assert len(listed(config(coco() | local | {"pipeline": [read | local]}))) == 2
    assert listed(config(coco() | {name: client})) == {}
    # images alone are elsewhere
    images = config(coco() | {"pipeline": [read | {name: client}]})
    assert listed(images) == {
        "data/coco/annotations/train.json": "train_dataloader.dataset.ann_file"
    }
    metric = {"type": "CocoMetric", "ann_file": "data/val.json"}
    cfg = config(coco(), val_evaluator={"type": "Evaluator", "metrics": [metric]})
    assert list(listed(cfg, ("val",))) == ["data/val.json"]
    cfg.val_evaluator = metric | {name: client}
    assert listed(cfg, ("val",)) == {}


def test_message_names_every_path_and_the_ways_out(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_coco(Path("data/coco"))
    (tmp_path / "data/coco/val").mkdir()
    cfg = config(
        coco(),
        val_dataloader={"dataset": coco(split="val")},
        data_hint="generate it: make the-data",
    )
    check_data(cfg, ("train",), refuse)
    with pytest.raises(SetupError) as caught:
        check_data(cfg, ("train", "val"), refuse)
    message = str(caught.value)
    assert "2 of the 4 paths" in message
    tree = [line.split() for line in message.splitlines() if line.startswith("  ")]
    assert tree == [
        ["data/coco/annotations/train.json", "ok"],
        ["data/coco/train/", "ok"],
        ["data/coco/annotations/val.json", "missing"],
        ["data/coco/val/", "empty"],
    ]
    assert f"relative to {tmp_path}" in message
    assert "generate it: make the-data" in message
    assert "--data-root" in message
    assert "val_dataloader.dataset.ann_file=" in message


def test_the_option_for_a_missing_folder_is_one_that_names_it(tmp_path: Path):
    """An absolute ``data_prefix`` is that folder; ``data_root`` would be its parent."""
    images = {"type": "ImageNet", "data_root": str(tmp_path), "split": "train"}
    with pytest.raises(SetupError, match=r"dataset\.data_prefix=/path/to/train"):
        check_data(config(images), ("train",), refuse)
    (tmp_path / "moved" / "train").mkdir(parents=True)
    (tmp_path / "moved" / "train" / "a").touch()
    check_data(config(images | {"data_prefix": str(tmp_path / "moved/train")}), ("train",), refuse)


def test_set_data_root_moves_datasets_and_evaluators(tmp_path: Path):
    make_coco(tmp_path)
    cfg = config(
        {"type": "RepeatDataset", "times": 2, "dataset": coco("data/coco/")},
        val_evaluator={"type": "CocoMetric", "ann_file": "data/coco/annotations/train.json"},
    )
    set_data_root(cfg, str(tmp_path))
    check_data(cfg, ("train", "val"), refuse)
    assert cfg.val_evaluator.ann_file == str(tmp_path / "annotations/train.json")


def test_set_data_root_refuses_several_roots():
    several = {"type": "ConcatDataset", "datasets": [coco("a"), coco("b")]}
    with pytest.raises(SetupError, match=r"share one data_root, got \['a', 'b'\]"):
        set_data_root(config(several), "c")


def test_missing_initial_weights_are_named(tmp_path: Path):
    weights = tmp_path / "weights.pth"
    init_cfg = {"type": "Pretrained", "checkpoint": str(weights)}
    cfg = Config({"model": {"backbone": {"init_cfg": [{"type": "Normal"}, init_cfg]}}})
    with pytest.raises(SetupError, match=r"model\.backbone\.init_cfg\.1\.checkpoint"):
        check_checkpoints(cfg, refuse, initial_weights=True)
    check_checkpoints(cfg, refuse, initial_weights=False)
    torch.save({}, weights)
    check_checkpoints(cfg, refuse, initial_weights=True)


def test_missing_checkpoint_to_load_is_named_and_urls_are_not_checked():
    with pytest.raises(SetupError, match=r"config key load_from\): no\.pth does not exist"):
        check_checkpoints(Config({"load_from": "no.pth"}), refuse, initial_weights=True)
    check_checkpoints(Config({"load_from": "https://host/no.pth"}), refuse, initial_weights=False)


def test_damaged_checkpoints_are_refused_before_anything_is_built(tmp_path: Path):
    weights = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(1000)}, weights)
    good = weights.read_bytes()
    for content, problem in (
        (good[:-200], "truncated or damaged"),
        (good.replace((777).to_bytes(8, "little"), bytes(8)), "checksum"),
        (b"<!DOCTYPE html>", "an HTML page"),
        (b"", "empty"),
    ):
        weights.write_bytes(content)
        with pytest.raises(SetupError, match=rf"to test cannot be used: .*{problem}"):
            check_checkpoints(Config({"load_from": str(weights)}), refuse, initial_weights=False)
