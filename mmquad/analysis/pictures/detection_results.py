"""Reads the results of an mmdet test run together with the annotations they belong to."""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmquad.analysis.pictures.detection_sheet import DetectionExample, Detections


def read_detection_examples(
    results_file: str | Path,
    annotation_file: str | Path,
    *,
    image_root: str | Path | None = None,
    score_threshold: float = 0.5,
    max_images: int | None = None,
) -> tuple[list[DetectionExample], list[str]]:
    """Pairs predictions with annotations.

    Args:
        results_file: What mmdet's `tools/test.py --out results.pkl` (`DumpDetResults`) wrote. It
            is a pickle: only read files that you trust.
        annotation_file: The COCO annotations of the tested images.
        image_root: Folder of the images; if None, the paths in the results are used.
        score_threshold: Predictions below it are left out.
        max_images: Number of images to read, in the order of the results; all if None.

    Returns:
        The examples, and the names of the classes by label.

    Raises:
        ValueError: The results are of images that the annotations do not have.
    """

    coco = COCO(str(annotation_file))
    category_ids = list(coco.cats)
    with open(results_file, "rb") as file:
        results = pickle.load(file)
    examples = []
    for result in results[:max_images]:
        info = coco.imgs.get(result["img_id"])
        if info is None:
            raise ValueError(
                f"expected results of the images of {annotation_file}, got {result['img_id']=}. "
                f"Were the results made with another annotation file?"
            )
        path = result["img_path"] if image_root is None else Path(image_root) / info["file_name"]
        examples.append(
            DetectionExample(
                image=_read_image(path),
                truth=_truth(coco, coco.imgToAnns[info["id"]], info, category_ids),
                prediction=_prediction(result["pred_instances"], info, score_threshold),
            )
        )
    return examples, [coco.cats[category_id]["name"] for category_id in category_ids]


def _truth(
    coco: COCO, annotations: list[dict], info: dict[str, Any], category_ids: list[int]
) -> Detections:
    objects = [a for a in annotations if not a.get("iscrowd", 0)]
    crowds = [coco.annToMask(a) > 0 for a in annotations if a.get("iscrowd", 0)]
    shape = (info["height"], info["width"])
    boxes = np.array([a["bbox"] for a in objects], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes=boxes,
        # mmdet numbers classes in the order of the annotation file
        labels=np.array([category_ids.index(a["category_id"]) for a in objects], dtype=int),
        masks=_stack((coco.annToMask(a) > 0 for a in objects), shape),
        ignored=np.any(crowds, axis=0) if crowds else None,
    )


def _prediction(
    instances: dict[str, Any], info: dict[str, Any], score_threshold: float
) -> Detections:
    scores = np.asarray(instances["scores"], dtype=float)
    keep = np.flatnonzero(scores >= score_threshold)
    masks = None
    if "masks" in instances:
        encoded = (instances["masks"][i] for i in keep)
        masks = _stack(
            (coco_mask.decode(rle) > 0 for rle in encoded), (info["height"], info["width"])
        )
    return Detections(
        boxes=np.asarray(instances["bboxes"], dtype=float).reshape(-1, 4)[keep],
        labels=np.asarray(instances["labels"], dtype=int)[keep],
        masks=masks,
        scores=scores[keep],
    )


def _stack(masks: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Masks as one array, bool, [N, H, W]; N may be 0."""
    return np.array(list(masks), dtype=bool).reshape(-1, *shape)


def _read_image(path: str | Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"expected an image at {path}, could not read one")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
