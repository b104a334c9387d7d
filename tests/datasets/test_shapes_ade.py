import cv2
import numpy as np
import pytest

from mmquad.datasets import (
    SEGMENTATION_CLASSES,
    SHAPE_CLASSES,
    Scene,
    SceneInstance,
    generate_shapes_ade,
    generate_shapes_coco,
)
from mmquad.datasets.shapes_ade import SEGMENTATION_PARAMS, label_map


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate_shapes_ade(tmp_path_factory.mktemp("data") / "ade", 12, 3)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_label_map_by_hand():
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:6, 2:7] = True
    scene = Scene(np.zeros((6, 7, 3), np.uint8), [SceneInstance(SHAPE_CLASSES.index("star"), mask)])
    expected = [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 5, 5, 5, 5],
        [1, 0, 0, 5, 5, 5, 5],
        [1, 0, 0, 5, 5, 5, 5],
        [1, 0, 0, 5, 5, 5, 5],
    ]
    assert label_map(scene).tolist() == expected


def test_layout_is_that_of_ade20k(root):
    for split, short, count in (("training", "train", 12), ("validation", "val", 3)):
        images = sorted((root / "images" / split).iterdir())
        labels = sorted((root / "annotations" / split).iterdir())
        assert [p.name for p in images] == [f"ADE_{short}_{i:08d}.jpg" for i in range(1, count + 1)]
        assert [p.stem for p in labels] == [p.stem for p in images]
        for image, label in zip(images, labels, strict=True):
            assert read(label).shape == read(image).shape[:2]
            assert read(label).dtype == np.uint8


def test_every_class_and_the_ignored_outlines_occur(root):
    maps = [read(p) for p in sorted((root / "annotations" / "training").iterdir())]
    values = np.concatenate([m.reshape(-1) for m in maps])
    assert set(values.tolist()) == set(range(len(SEGMENTATION_CLASSES) + 1))
    assert 0.01 < np.mean(values == 0) < 0.25
    for labels in maps:  # no two classes touch: what is between them does not count
        pairs = np.stack([labels[:, 1:].reshape(-1), labels[:, :-1].reshape(-1)])
        touching = pairs[:, (pairs[0] != pairs[1]) & (pairs > 0).all(axis=0)]
        assert touching.size == 0


def test_the_scenes_are_those_of_the_coco_set(root, tmp_path):
    coco = generate_shapes_coco(tmp_path / "coco", 2, 1, scene_params=SEGMENTATION_PARAMS)
    one = (coco / "train2017" / f"{2:012d}.jpg").read_bytes()
    assert one == (root / "images" / "training" / f"ADE_train_{2:08d}.jpg").read_bytes()


def test_same_arguments_same_bytes_and_nothing_is_overwritten(root, tmp_path):
    again = generate_shapes_ade(tmp_path / "again", 12, 3)
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((root / f).read_bytes() == (again / f).read_bytes() for f in files)
    with pytest.raises(FileExistsError, match="seed: 0 -> 1"):
        generate_shapes_ade(again, 12, 3, seed=1)
    with pytest.raises(ValueError, match="at least 1 images per split"):
        generate_shapes_ade(tmp_path / "none", 0, 3)


def test_mmseg_reads_it_also_as_ade20k(root):
    """Stock ADE20KDataset, only told another folder; 0 becomes its ignore index 255."""
    datasets = pytest.importorskip("mmseg.datasets")
    dataset = datasets.ADE20KDataset(
        data_root=str(root),
        data_prefix={"img_path": "images/training", "seg_map_path": "annotations/training"},
        pipeline=[
            {"type": "LoadImageFromFile"},
            {"type": "mmseg.LoadAnnotations", "reduce_zero_label": True},
        ],
    )
    assert len(dataset) == 12
    loaded = dataset[0]
    raw = read(root / "annotations" / "training" / "ADE_train_00000001.png").astype(int)
    np.testing.assert_array_equal(loaded["gt_seg_map"], np.where(raw == 0, 255, raw - 1))
