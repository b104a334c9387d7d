"""Draws what a detector, segmentor or classifier finds in images, by its host's own inferencer."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmquad.analysis.pictures.detection_sheet import Detections, draw_detections, write_picture
from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.checkpoints.download import read_checkpoint_from
from mmquad.checkpoints.loading import fitting_weights
from mmquad.checks.damaged_images import image_problem, pipeline_decoders
from mmquad.compat import runner_checkpoint_globals
from mmquad.engine.config_loading import library_of, read_config
from mmquad.errors import SetupError

__all__ = ["ImageResult", "draw_predictions", "make_inferencer"]

_LEAST_SIDE = 480
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageResult:
    """What became of one image.

    Args:
        image: The image.
        drawn: The picture with the predictions, or None if the image could not be used.
        summary: The prediction in words, or what is wrong with the image.
    """

    image: Path
    drawn: Path | None
    summary: str


def make_inferencer(config: str | Path, checkpoint: str | Path, device: str | None = None) -> Any:
    """``DetInferencer``, ``MMSegInferencer`` or ``ImageClassificationInferencer`` of a config.

    What our configs need beyond a plain call: the repairs of :mod:`mmquad.compat`; weights that
    must fit entirely, where mmengine only logs; and, for mmseg, the data set's own class names and
    colours, where mmseg takes those of Cityscapes.

    Args:
        config: A config of mmdet, mmseg or mmpretrain.
        checkpoint: Weights, by path, URL or ``hf://owner/name/file``.
        device: Such as ``cpu`` or ``cuda:0``; None: a GPU if there is one.

    Raises:
        SetupError: The config or the checkpoint is absent, damaged, or they do not fit.
    """
    cfg = read_config(config)
    try:
        content = read_checkpoint_from(str(checkpoint), allowed=runner_checkpoint_globals())
        inferencer = _BUILDERS[library_of(cfg)](cfg, str(checkpoint), device)
        model = inferencer.model
        # Again: where the file has the weights in another place, the host's loading found none.
        model.load_state_dict(fitting_weights(model, content, source=str(checkpoint)))
    except (CheckpointFileError, CheckpointMismatchError) as error:
        raise SetupError(str(error)) from error
    return inferencer


def draw_predictions(
    inferencer: Any, images: Iterable[Path], out_dir: str | Path, score_threshold: float = 0.3
) -> Iterator[ImageResult]:
    """Predict image after image and write each picture; one that fails is reported, not fatal.

    Args:
        inferencer: See :func:`make_inferencer`.
        images: Paths of images.
        out_dir: Folder of the pictures, named as the images.
        score_threshold: Least score of drawn detections.

    Yields:
        The result of each image, as soon as it is there.
    """
    predict = _PREDICTORS[type(inferencer).__name__]
    cfg = inferencer.config if hasattr(inferencer, "config") else inferencer.cfg
    decoders = pipeline_decoders(cfg, ("test",))
    names: Counter[str] = Counter()
    for image in images:
        problem = image_problem(image, decoders=decoders)
        if problem is not None:
            yield ImageResult(image, None, problem)
            continue
        # Readable for OpenCV and yet too much for a pipeline or for the memory: whatever an image
        # does, the others can be predicted.
        try:
            picture, summary = predict(inferencer, image, score_threshold)
        except Exception as error:
            _LOG.debug("%s", image, exc_info=True)
            yield ImageResult(image, None, _in_one_line(error))
            continue
        names[image.stem] += 1
        number = names[image.stem]  # folders may hold images of one name
        name = image.stem if number == 1 else f"{image.stem}_{number}"
        yield ImageResult(image, write_picture(Path(out_dir) / f"{name}.png", picture), summary)


def _in_one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _detector(cfg: Config, checkpoint: str, device: str | None) -> Any:
    from mmdet.apis import DetInferencer

    return DetInferencer(cfg, checkpoint, device=device, show_progress=False)


def _segmentor(cfg: Config, checkpoint: str, device: str | None) -> Any:
    from mmseg.apis import MMSegInferencer
    from mmseg.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    meta = dict(getattr(DATASETS.get(dataset["type"]), "METAINFO", {}))
    meta |= dataset.get("metainfo") or {}
    inferencer = MMSegInferencer(cfg, checkpoint, device=device, show_progress=False)
    # It would draw with the names and colours of the checkpoint, or else of Cityscapes.
    inferencer.model.dataset_meta = {
        "classes": list(meta["classes"]),
        "palette": [list(color) for color in meta["palette"]],
    }
    return inferencer


def _classifier(cfg: Config, checkpoint: str, device: str | None) -> Any:
    from mmpretrain.apis import ImageClassificationInferencer

    # The other two do this themselves; after one of them its scope would be in force.
    init_default_scope("mmpretrain")
    return ImageClassificationInferencer(cfg, pretrained=checkpoint, device=device)


def _detect(inferencer: Any, image: Path, threshold: float) -> tuple[np.ndarray, str]:
    found = inferencer(str(image), return_datasamples=True, no_save_vis=True)
    objects = found["predictions"][0].pred_instances.cpu()
    objects = objects[objects.scores >= threshold]
    classes = inferencer.visualizer.dataset_meta["classes"]
    masks = objects.masks.numpy() if "masks" in objects else None
    detections = Detections(
        objects.bboxes.numpy(), objects.labels.numpy(), masks, objects.scores.numpy()
    )
    picture = _read(image)
    picture = draw_detections(picture, detections, classes, _enlargement(picture))
    counts = Counter(classes[label] for label in objects.labels.tolist())
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return picture, listed or "nothing found"


def _segment(inferencer: Any, image: Path, threshold: float) -> tuple[np.ndarray, str]:
    del threshold
    found = inferencer(str(image), return_vis=True)
    classes = inferencer.visualizer.dataset_meta["classes"]
    labels, counts = np.unique(found["predictions"], return_counts=True)
    shares = sorted(zip(counts / counts.sum(), labels, strict=True), reverse=True)
    listed = ", ".join(f"{classes[label]} {share:.0%}" for share, label in shares[:5])
    return found["visualization"], listed


def _classify(inferencer: Any, image: Path, threshold: float) -> tuple[np.ndarray, str]:
    from mmpretrain.visualization import UniversalVisualizer

    del threshold
    (sample,) = inferencer(str(image), return_datasamples=True)
    (found,) = inferencer.postprocess([sample], [])
    picture = _read(image)
    factor = _enlargement(picture)
    picture = UniversalVisualizer().visualize_cls(
        picture, sample, classes=inferencer.classes, draw_gt=False, rescale_factor=factor
    )
    label = found.get("pred_class", found["pred_label"])
    return picture, f"{label} {found['pred_score']:.2f}"


def _read(image: Path) -> np.ndarray:
    from mmcv import imfrombytes

    # From its bytes: cv2.imread takes no names that are not UTF-8.
    content = image.read_bytes()
    picture = imfrombytes(content, channel_order="bgr", backend="cv2")
    if picture is None:
        return imfrombytes(content, channel_order="rgb", backend="pillow")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _enlargement(picture: np.ndarray) -> float:
    """Small images are enlarged, so that what is written on them can be read."""
    return max(1.0, _LEAST_SIDE / max(picture.shape[:2]))


_BUILDERS = {"mmdet": _detector, "mmseg": _segmentor, "mmpretrain": _classifier}
_PREDICTORS = {
    "DetInferencer": _detect,
    "MMSegInferencer": _segment,
    "ImageClassificationInferencer": _classify,
}
