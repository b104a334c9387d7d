import cv2
import pytest

from mmquad.datasets import (
    CLASSIFICATION_CLASSES,
    SHAPE_CLASSES,
    SceneParams,
    generate_shapes_imagenet,
)
from mmquad.datasets.shapes_imagenet import OBJECT_PARAMS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate_shapes_imagenet(tmp_path_factory.mktemp("data") / "imagenet", 10, 4)


def test_layout_is_that_of_imagenet(root):
    counts = {
        split: [len(list((root / split / name).glob("*.JPEG"))) for name in SHAPE_CLASSES]
        for split in ("train", "val")
    }
    assert counts == {"train": [3, 3, 2, 2], "val": [1, 1, 1, 1]}
    low, high = OBJECT_PARAMS.side_range
    for path in root.rglob("*.JPEG"):
        assert all(low <= side <= high for side in cv2.imread(str(path)).shape[:2])


def test_same_arguments_same_bytes_and_no_image_twice(root, tmp_path):
    again = generate_shapes_imagenet(tmp_path / "again", 10, 4)
    contents = [path.read_bytes() for path in sorted(root.rglob("*.JPEG"))]
    assert contents == [path.read_bytes() for path in sorted(again.rglob("*.JPEG"))]
    assert len(set(contents)) == 14
    with pytest.raises(FileExistsError, match="num_val: 4 -> 5"):
        generate_shapes_imagenet(again, 10, 5)


def test_mmpretrain_reads_it(root):
    datasets = pytest.importorskip("mmpretrain.datasets")
    dataset = datasets.ImageNet(
        data_root=str(root),
        split="train",
        metainfo={"classes": CLASSIFICATION_CLASSES},
        pipeline=[],
    )
    assert dataset.CLASSES == CLASSIFICATION_CLASSES
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        assert f"/{CLASSIFICATION_CLASSES[info['gt_label']]}/" in info["img_path"]
    assert sorted(dataset.get_gt_labels().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_impossible_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least 4 images per split"):
        generate_shapes_imagenet(tmp_path / "few", 3, 4)
    with pytest.raises(ValueError, match="expected scenes with objects"):
        generate_shapes_imagenet(tmp_path / "empty", 4, 4, scene_params=SceneParams(empty_prob=1.0))
    assert list(tmp_path.iterdir()) == []
