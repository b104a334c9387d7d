"""Models of the host libraries whose heads differ by design are not suspected."""

import importlib
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmquad.checks.head_classes import unlike_heads
from mmquad.compat import load_config

# Cheap to build without values; the whole of the libraries was looked through by hand once.
CONFIGS = [
    ("mmdet", "htc/htc_r50_fpn_1x_coco.py"),
    ("mmdet", "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"),
    ("mmdet", "cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py"),
    ("mmdet", "mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py"),
    ("mmdet", "retinanet/retinanet_r50_fpn_1x_coco.py"),
    ("mmseg", "stdc/stdc1_4xb12-80k_cityscapes-512x1024.py"),
    ("mmseg", "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py"),
    ("mmpretrain", "densenet/densenet121_4xb256_in1k.py"),
]


@pytest.mark.parametrize(("library", "name"), CONFIGS, ids=[name for _, name in CONFIGS])
def test_no_head_is_suspected(library: str, name: str) -> None:
    folder = Path(str(importlib.import_module(library).__file__)).parent / ".mim/configs"
    cfg = load_config(str(folder / name))
    registry = importlib.import_module(f"{library}.registry")
    with DefaultScope.overwrite_default_scope(library), torch.device("meta"):  # shapes alone
        model = registry.MODELS.build(cfg.model)
        metainfo = registry.DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO
    assert unlike_heads(model, metainfo) == {}
    # the guess is not empty: with one class more, the heads of the classes are named
    more = {key: (*value, "more") for key, value in metainfo.items() if key.endswith("classes")}
    assert unlike_heads(model, more) != {}
