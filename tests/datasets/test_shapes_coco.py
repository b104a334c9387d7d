import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmquad.datasets import SHAPE_CLASSES, SHAPE_PALETTE, SceneParams, generate_shapes_coco

COCO = pytest.importorskip("pycocotools.coco").COCO

NUM_TRAIN, NUM_VAL = 80, 12
# rarities more often than by default, so that few images have them all
PARAMS = SceneParams(crowd_prob=0.15, empty_prob=0.1, large_prob=0.3)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "coco"
    return generate_shapes_coco(folder, NUM_TRAIN, NUM_VAL, scene_params=PARAMS)


@pytest.fixture(scope="module", params=["train", "val"])
def split(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def coco(root, split):
    return COCO(str(root / "annotations" / f"instances_{split}2017.json"))


def test_layout_is_that_of_coco(root):
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    assert folders == {"annotations", "train2017", "val2017"}
    assert len(list((root / "train2017").iterdir())) == NUM_TRAIN
    assert len(list((root / "val2017").iterdir())) == NUM_VAL


def test_images_are_as_described(root, coco, split):
    for info in coco.imgs.values():
        image = cv2.imread(str(root / f"{split}2017" / info["file_name"]))
        assert image.shape == (info["height"], info["width"], 3)


def test_annotations_match_their_masks(coco):
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation) > 0
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        if annotation["iscrowd"]:
            assert set(annotation["segmentation"]) == {"counts", "size"}
        else:
            assert all(len(polygon) >= 6 for polygon in annotation["segmentation"])


def test_masks_of_an_image_never_overlap(coco):
    for image_id, info in coco.imgs.items():
        covered = np.zeros((info["height"], info["width"]), dtype=int)
        for annotation in coco.imgToAnns[image_id]:
            covered += coco.annToMask(annotation)
        assert covered.max() <= 1


def test_the_splits_have_what_a_test_needs(root):
    coco = COCO(str(root / "annotations" / "instances_train2017.json"))
    objects = [a for a in coco.anns.values() if not a["iscrowd"]]
    areas = np.array([a["area"] for a in objects])
    # COCO's limits of small, medium and large
    assert np.sum(areas < 32**2) > 0.2 * len(areas)
    assert np.sum((areas >= 32**2) & (areas < 96**2)) > 0.2 * len(areas)
    assert np.sum(areas >= 96**2) > 0
    assert any(len(a["segmentation"]) > 1 for a in objects)
    assert any(a["iscrowd"] for a in coco.anns.values())
    assert any(not coco.imgToAnns[image_id] for image_id in coco.imgs)
    assert {a["category_id"] for a in objects} == {1, 2, 3, 4}


def test_ids_are_unique_over_both_splits(root):
    files = [root / "annotations" / f"instances_{s}2017.json" for s in ("train", "val")]
    loaded = [json.loads(path.read_text()) for path in files]
    for key in ("images", "annotations"):
        ids = [row["id"] for content in loaded for row in content[key]]
        assert len(set(ids)) == len(ids)
        assert min(ids) > 0
    names = [category["name"] for category in loaded[0]["categories"]]
    assert tuple(names) == SHAPE_CLASSES


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    """Also in another process with another hash seed."""
    here = generate_shapes_coco(tmp_path / "here", 8, 4)
    code = "import sys, mmquad.datasets as d; d.generate_shapes_coco(sys.argv[1], 8, 4)"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    there = tmp_path / "there"
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, env=environment)
    assert contents(here) == contents(there)


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path):
    few = contents(generate_shapes_coco(tmp_path / "few", 3, 2))
    many = contents(generate_shapes_coco(tmp_path / "many", 6, 2))
    different = {name for name in few if few[name] != many[name]}
    assert different == {"annotations/instances_train2017.json", "shapes.json"}


def test_seeds_and_splits_give_different_images(tmp_path):
    one = contents(generate_shapes_coco(tmp_path / "one", 4, 4, seed=1))
    two = contents(generate_shapes_coco(tmp_path / "two", 4, 4, seed=2))
    images = [data for made in (one, two) for name, data in made.items() if name.endswith(".jpg")]
    assert len(images) == len(set(images)) == 16


def test_other_parameters_need_overwrite(tmp_path):
    root = generate_shapes_coco(tmp_path / "set", 2, 2)
    before = contents(root)
    generate_shapes_coco(root, 2, 2)
    with pytest.raises(FileExistsError, match="num_train: 2 -> 3"):
        generate_shapes_coco(root, 3, 2)
    with pytest.raises(FileExistsError, match="scene_params"):
        generate_shapes_coco(root, 2, 2, scene_params=SceneParams(max_objects=2))
    assert contents(root) == before
    generate_shapes_coco(root, 3, 2, overwrite=True)
    assert len(list((root / "train2017").iterdir())) == 3


def test_a_split_may_not_be_empty(tmp_path):
    with pytest.raises(ValueError, match="at least 1 images per split, got num_train=0"):
        generate_shapes_coco(tmp_path / "set", 0, 2)


def test_mmdet_loads_it(root):
    pytest.importorskip("mmdet")
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(
        ann_file="annotations/instances_train2017.json",
        data_root=str(root),
        data_prefix={"img": "train2017/"},
        metainfo={"classes": SHAPE_CLASSES, "palette": list(SHAPE_PALETTE)},
        filter_cfg={"filter_empty_gt": True, "min_size": 32},
        pipeline=[
            {"type": "mmdet.LoadImageFromFile"},
            {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True},
        ],
    )
    assert dataset.metainfo["classes"] == SHAPE_CLASSES
    assert 0.8 * NUM_TRAIN <= len(dataset) < NUM_TRAIN  # empty images are filtered
    coco = COCO(str(root / "annotations" / "instances_train2017.json"))
    for index in range(0, len(dataset), 10):
        loaded = dataset[index]
        annotations = coco.imgToAnns[loaded["img_id"]]
        assert loaded["gt_bboxes_labels"].tolist() == [a["category_id"] - 1 for a in annotations]
        assert loaded["gt_ignore_flags"].tolist() == [bool(a["iscrowd"]) for a in annotations]
        for mask, annotation in zip(loaded["gt_masks"].masks, annotations, strict=True):
            if not annotation["iscrowd"]:
                np.testing.assert_array_equal(mask, coco.annToMask(annotation))


def test_importing_the_package_imports_no_framework():
    code = "import sys, mmquad.datasets; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "mmengine", "mmdet"} & set(done.stdout.split())
