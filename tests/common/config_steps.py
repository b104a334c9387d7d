"""What tests of configs do with them: load, build on a CPU, make a batch for a step."""

import copy
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmquad.compat import load_config
from mmquad.engine.cpu import replace_sync_bn

CONFIGS = Path(__file__).parents[2] / "configs"


@cache
def load(name: str) -> Config:
    return load_config(str(CONFIGS / f"{name}.py"))


def build(cfg: Config) -> nn.Module:
    """The model, on a CPU."""
    init_default_scope(cfg.default_scope)
    cfg = copy.deepcopy(cfg)
    replace_sync_bn(cfg)
    model = cfg.model
    if cfg.default_scope == "mmpretrain":
        model.data_preprocessor = {"type": "ClsDataPreprocessor", **cfg.data_preprocessor}
        model.data_preprocessor["batch_augments"] = dict(model.train_cfg)
    return import_module(f"{cfg.default_scope}.registry").MODELS.build(model)


def ease(cfg: Config) -> None:
    """Change a config in place: few boxes, and segmentors that do not pad to their crops."""
    if cfg.default_scope == "mmseg":
        cfg.model.data_preprocessor.size = (64, 96)  # to which it would pad
    if cfg.default_scope == "mmdet" and "rpn_head" in cfg.model:
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        heads = cfg.model.train_cfg.rcnn  # of a cascade: one for each of its stages
        for head in heads if isinstance(heads, list) else [heads]:
            head.sampler.num = 16
        cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=10)
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)


def batch(cfg: Config, height: int, width: int) -> dict:
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(2)]
    shape = (height, width)
    meta = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0), "img_id": 0}
    samples: list = []
    for i in range(2):
        if cfg.default_scope == "mmpretrain":
            samples.append(DataSample().set_gt_label(i))
        elif cfg.default_scope == "mmseg":
            labels = PixelData(data=torch.randint(0, 150, (1, height, width)))
            samples.append(SegDataSample(metainfo=meta, gt_sem_seg=labels))
        else:
            boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0]])
            masks = BitmapMasks(np.ones((1, height, width), dtype=np.uint8), height, width)
            truth = InstanceData(bboxes=boxes, labels=torch.tensor([i]), masks=masks)
            samples.append(DetDataSample(metainfo=meta, gt_instances=truth))
            samples[-1].ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    inputs: list | Tensor = torch.stack(images) if cfg.default_scope == "mmpretrain" else images
    return {"inputs": inputs, "data_samples": samples}
