"""Which of mmcv's operators the models of mmdet and mmseg call, and the losses they give.

    python -m benchmarks.mmcv_operators --out torchvision.json
    python -m benchmarks.mmcv_operators --out compiled.json --against torchvision.json

Runs the host libraries' own configs, randomly initialised, through one training step and one
prediction on small images, and notes every operator that is called. On the CPU, the libraries have
functions of their own for two of them, the sigmoid focal loss and multi-scale deformable attention;
where those run, the operator runs on CUDA, and the table says so.

With the results of an environment with other operators, the losses are compared: the largest
difference, relative to each loss.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import mmcv.ops  # noqa: F401  loads every module that has operators
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from mmquad import compat

SIZE = 128
# On the CPU: the function that stands in, and the operator that CUDA has for it.
ON_CUDA = {
    "mmdet.models.losses.focal_loss.py_sigmoid_focal_loss": "sigmoid_focal_loss",
    "mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch": "ms_deform_attn",
    "mmdet.models.layers.msdeformattn_pixel_decoder.multi_scale_deformable_attn_pytorch": (
        "ms_deform_attn"
    ),
}
MODELS_BY_LIBRARY = {
    "mmdet": {
        "Mask R-CNN": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "Cascade Mask R-CNN": "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco.py",
        "FCOS": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
        "ATSS": "atss/atss_r50_fpn_1x_coco.py",
        "RTMDet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        "DINO": "dino/dino-4scale_r50_8xb2-12e_coco.py",
        "Mask2Former": "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
        "Faster R-CNN with soft-NMS": "faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py",
        "Faster R-CNN with PISA": "pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py",
        "Mask R-CNN with DCN": "dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
        "Mask R-CNN with DCNv2": "dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
        "ATSS with DyHead": "dyhead/atss_r50_fpn_dyhead_1x_coco.py",
        "Faster R-CNN with CARAFE": "carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py",
    },
    "mmseg": {
        "UperNet": "upernet/upernet_r50_4xb4-80k_ade20k-512x512.py",
        "SegFormer": "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        "DeepLabV3+": "deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
        "PointRend": "point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py",
        "PSANet": "psanet/psanet_r50-d8_4xb4-80k_ade20k-512x512.py",
    },
    "mmpretrain": {"ResNet-50": "resnet/resnet50_8xb32_in1k.py"},
}


class Outcome(NamedTuple):
    """What one model did: operators of a step and of a prediction, and the losses."""

    train: list[str]
    test: list[str]
    losses: dict[str, float]
    failure: str


@contextlib.contextmanager
def noted_calls(calls: set[str]) -> Iterator[None]:
    """Adds the operators that are called meanwhile; in brackets those that only CUDA calls."""

    class Noting:
        def __init__(self, operators: Any) -> None:
            self.operators = operators

        def __getattr__(self, name: str) -> Any:
            operator = getattr(self.operators, name)

            def call(*arguments: Any, **named: Any) -> Any:
                calls.add(name.removesuffix("_forward"))
                return operator(*arguments, **named)

            return operator if name.endswith(("_backward", "_input", "_parameters")) else call

    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("mmcv.ops.") and hasattr(module, "ext_module"):
                noting = Noting(module.ext_module)
                stack.enter_context(mock.patch.object(module, "ext_module", noting))
        for function, operator in ON_CUDA.items():
            module, name = function.rsplit(".", 1)
            if hasattr(sys.modules.get(module), name):
                plain = getattr(sys.modules[module], name)

                def call(*arguments: Any, plain=plain, operator=operator, **named: Any) -> Any:
                    calls.add(f"({operator})")
                    return plain(*arguments, **named)

                stack.enter_context(mock.patch(function, call))
        yield


def without_downloads(node: Any) -> None:
    """Random weights instead of pretrained ones, in a whole config."""
    if isinstance(node, ConfigDict):
        for key in ("init_cfg", "pretrained"):
            if isinstance(node.get(key), ConfigDict | str):
                node[key] = None
        for value in node.values():
            without_downloads(value)
    elif isinstance(node, list):
        for value in node:
            without_downloads(value)


def model_config(library: str, path: str) -> ConfigDict:
    """The model of a host library's config, set to report detections of any score and size."""
    folder = Path(sys.modules[library].__file__).parent / ".mim" / "configs"
    config = Config.fromfile(folder / path).model
    without_downloads(config)
    if "num_queries" in config:
        config.num_queries = 200  # small images have few tokens to choose them from
    # Mask2Former's would pad every image to 1024 x 1024.
    config.get("data_preprocessor", {}).pop("batch_augments", None)
    for test in (config.get("test_cfg"), (config.get("test_cfg") or {}).get("rcnn")):
        if test and "score_thr" in test:
            test.score_thr = 0.0
        if test and "min_bbox_size" in test:
            test.min_bbox_size = -1  # boxes of an untrained model may have no width
    return config


def inputs(library: str, masks: bool) -> dict:
    """Two images with what a model of the library learns from; boxes with or without masks."""
    random = np.random.RandomState(0)
    images = [torch.from_numpy(random.randint(0, 256, (3, SIZE, SIZE), np.uint8)) for _ in "ab"]
    if library == "mmdet":
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(2, [(3, SIZE, SIZE)] * 2, num_classes=80, with_mask=masks)
    meta = {"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE)}
    if library == "mmpretrain":
        from mmpretrain.structures import DataSample

        return {"inputs": images, "data_samples": [DataSample().set_gt_label(i) for i in (0, 9)]}
    from mmseg.structures import SegDataSample

    labels = [torch.from_numpy(random.randint(0, 150, (1, SIZE, SIZE))) for _ in images]
    samples = [SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label)) for label in labels]
    return {"inputs": images, "data_samples": samples}


def run(library: str, path: str) -> Outcome:
    """One training step and one prediction."""
    init_default_scope(library)
    masks = "mask" in path
    torch.manual_seed(0)
    np.random.seed(0)
    model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(model_config(library, path))))
    model.init_weights()  # before that, some have parameters that are no numbers
    losses: dict[str, float] = {}
    train: set[str] = set()
    test: set[str] = set()
    failure = ""
    try:
        with noted_calls(train):
            data = model.data_preprocessor(inputs(library, masks), training=True)
            total, values = model.parse_losses(model(**data, mode="loss"))
            total.backward()
        losses = {name: value.item() for name, value in values.items()}
        with noted_calls(test), torch.no_grad():
            model.eval()
            model(**model.data_preprocessor(inputs(library, masks), False), mode="predict")
    except RuntimeError as error:
        # NotImplementedError is ours; a compiled mmcv says this of what only CUDA has.
        if not (
            isinstance(error, NotImplementedError) or "implementation for device" in str(error)
        ):
            raise
        failure = str(error).strip().split(";")[0]
    return Outcome(sorted(train), sorted(test), losses, failure)


def difference(losses: dict[str, float], others: dict[str, float]) -> float:
    """The largest relative difference of two runs of a model."""
    if losses.keys() != others.keys():
        raise ValueError(f"other losses: {sorted(losses)} and {sorted(others)}")
    return max(
        (abs(value - others[name]) / max(abs(value), 1e-12) for name, value in losses.items()),
        default=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models, separated by commas")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--against", type=Path, help="results of other operators")
    arguments = parser.parse_args()
    compat.apply()
    MMLogger.get_current_instance().setLevel("ERROR")  # not the initialisation of every layer
    others = json.loads(arguments.against.read_text()) if arguments.against else {}
    results: dict[str, Outcome] = {}
    print("| Library | Model | Training step | Prediction |" + " Losses |" * bool(others))
    print("|---|---|---|---|" + "---|" * bool(others))
    for library, models in MODELS_BY_LIBRARY.items():
        with contextlib.suppress(ImportError):
            __import__(f"{library}.models")
        for name, path in models.items():
            if library not in sys.modules or (
                arguments.only and name not in arguments.only.split(",")
            ):
                continue
            outcome = results[name] = run(library, path)
            cells = [", ".join(calls) or "none" for calls in (outcome.train, outcome.test)]
            if outcome.failure:
                cells = [outcome.failure, ""]
            if name in others:
                ran = not outcome.failure and not others[name]["failure"]
                theirs = others[name]["losses"]
                cells.append(f"{difference(outcome.losses, theirs):.1e}" if ran else "")
            print(f"| {library} | {name} | {' | '.join(cells)} |", flush=True)
            if arguments.out:
                table = {name: outcome._asdict() for name, outcome in results.items()}
                arguments.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
