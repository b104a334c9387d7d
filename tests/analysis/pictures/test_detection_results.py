import pickle
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
coco_mask = pytest.importorskip("pycocotools.mask")

from pycocotools.coco import COCO  # noqa: E402

from mmquad.analysis.pictures.detection_results import read_detection_examples  # noqa: E402
from mmquad.datasets import SHAPE_CLASSES, SceneParams, generate_shapes_coco  # noqa: E402

TOOLS = Path(__file__).parents[3] / "tools" / "analysis_tools"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    params = SceneParams(crowd_prob=0.5, empty_prob=0.2)
    return generate_shapes_coco(tmp_path_factory.mktemp("data") / "set", 1, 10, 0, params)


@pytest.fixture(scope="module")
def annotations(dataset):
    return dataset / "annotations" / "instances_val2017.json"


@pytest.fixture(scope="module")
def results(dataset, annotations, tmp_path_factory):
    """The truth in the form that mmdet dumps, each object once more with a score of 0.1."""
    coco = COCO(str(annotations))
    rows = []
    for info in coco.imgs.values():
        objects = [a for a in coco.imgToAnns[info["id"]] if not a["iscrowd"]] * 2
        boxes = torch.tensor([a["bbox"] for a in objects]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        half = len(objects) // 2
        instances = {
            "bboxes": boxes,
            "labels": torch.tensor([a["category_id"] - 1 for a in objects], dtype=torch.long),
            "scores": torch.tensor([0.9] * half + [0.1] * half),
            "masks": [coco_mask.encode(np.asfortranarray(coco.annToMask(a))) for a in objects],
        }
        rows.append(
            {
                "img_id": info["id"],
                "img_path": str(dataset / "val2017" / info["file_name"]),
                "ori_shape": (info["height"], info["width"]),
                "pred_instances": instances,
            }
        )
    path = tmp_path_factory.mktemp("results") / "results.pkl"
    path.write_bytes(pickle.dumps(rows))
    return path


def test_truth_and_prediction_agree_where_the_results_are_the_truth(results, annotations):
    examples, names = read_detection_examples(results, annotations)
    assert tuple(names) == SHAPE_CLASSES
    assert len(examples) == 10
    for example in examples:
        truth, prediction = example.truth, example.prediction
        np.testing.assert_array_equal(prediction.boxes, truth.boxes)
        np.testing.assert_array_equal(prediction.labels, truth.labels)
        np.testing.assert_array_equal(prediction.masks, truth.masks)
        np.testing.assert_allclose(prediction.scores, 0.9)
        assert truth.masks.shape[1:] == example.image.shape[:2]
    counts = [len(example.truth.labels) for example in examples]
    assert min(counts) == 0 < max(counts)


def test_crowds_are_ignored_regions(results, annotations):
    examples, _ = read_detection_examples(results, annotations)
    ignored = [e.truth.ignored for e in examples if e.truth.ignored is not None]
    assert 0 < len(ignored) < 10
    assert all(region.any() for region in ignored)


def test_threshold_and_number_of_images(results, annotations):
    some, _ = read_detection_examples(results, annotations, score_threshold=0.05, max_images=3)
    assert len(some) == 3
    assert [len(e.prediction.labels) for e in some] == [2 * len(e.truth.labels) for e in some]


def test_images_may_have_moved(results, annotations, dataset, tmp_path):
    moved, _ = read_detection_examples(
        results, annotations, image_root=dataset / "val2017", max_images=1
    )
    there, _ = read_detection_examples(results, annotations, max_images=1)
    np.testing.assert_array_equal(moved[0].image, there[0].image)
    with pytest.raises(FileNotFoundError, match="expected an image at"):
        read_detection_examples(results, annotations, image_root=tmp_path)


def test_annotations_of_other_images_are_refused(results, dataset):
    other = dataset / "annotations" / "instances_train2017.json"
    with pytest.raises(ValueError, match=r"got result\['img_id'\]=1000001"):
        read_detection_examples(results, other)


def test_the_tool_draws_the_sheet(results, annotations, tmp_path, monkeypatch):
    out = tmp_path / "sheet.png"
    arguments = [str(results), str(annotations), "--out", str(out), "--max-images", "3"]
    monkeypatch.setattr(sys, "argv", ["draw_detection_sheet.py", *arguments])
    runpy.run_path(str(TOOLS / "draw_detection_sheet.py"), run_name="__main__")
    assert cv2.imread(str(out)).shape == (24 + 2 * 336, 2 * 688, 3)
