"""Configs of other people's backbones: one of each kind and library trains a step and predicts."""

import copy
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from config_steps import CONFIGS, batch, build, ease, load
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

LEAVES = sorted(CONFIGS.glob("*/controls/*.py"))
STEPPED = [
    "mmdet/controls/mask-rcnn_resnet18_fpn_1x_coco",
    "mmdet/controls/mask-rcnn_pvt-tiny_fpn_1x_coco",
    "mmdet/controls/mask-rcnn_swin-tiny_fpn_1x_coco",
    "mmdet/controls/mask-rcnn_convnext-tiny_fpn_1x_coco",
    "mmdet/controls/mask-rcnn_deit-small_sfp_1x_coco",
    "mmdet/controls/mask-rcnn_mambaout-tiny_fpn_1x_coco",
    "mmseg/controls/upernet_resnet18_8xb2-160k_ade20k-512x512",
    "mmseg/controls/upernet_pvt-tiny_8xb2-160k_ade20k-512x512",
    "mmseg/controls/upernet_swin-tiny_8xb2-160k_ade20k-512x512",
    "mmseg/controls/upernet_deit-small_8xb2-160k_ade20k-512x512",
    "mmpretrain/controls/regnety-4gf_8xb128_in1k",
]
# What decays neither in the hosts' recipes nor here.
SPARED = ("norm", "relative_position_bias_table", "pos_embed", "cls_token", "gamma", "bn")


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_leaf_documents_itself_and_has_our_schedule(path):
    text = path.read_text()
    assert "Published: " in text
    assert f"{path.parent.relative_to(CONFIGS)}/{path.name} 8" in text
    cfg = load(str(path.relative_to(CONFIGS).with_suffix("")))
    ours = {"mmdet": "mask-rcnn_vmamba-tiny-s1l8_fpn_1x_coco", "mmpretrain": "vmamba-tiny-s1l8"}
    ours |= {"mmseg": "upernet_vmamba-tiny-s1l8_8xb2-160k_ade20k-512x512"}
    (other,) = (CONFIGS / cfg.default_scope / "vmamba").glob(f"{ours[cfg.default_scope]}*.py")
    vmamba = load(str(other.relative_to(CONFIGS).with_suffix("")))
    assert cfg.optim_wrapper.optimizer == vmamba.optim_wrapper.optimizer
    for part in ("param_scheduler", "train_cfg", "train_dataloader", "val_dataloader"):
        assert cfg[part] == vmamba[part], part


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPPED)
def test_one_step_and_one_prediction(name: str):
    cfg = copy.deepcopy(load(name))
    if "TIMMBackbone" in cfg.model.backbone.type and not find_spec("timm"):
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    np.random.seed(0)
    ease(cfg)
    shallow(cfg.model.backbone)
    model = build(cfg)  # without init_weights, which would fetch some
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # no gradient is then next to nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = copy.deepcopy(dict(model.named_parameters()))
    wrapper = build_optim_wrapper(model, decaying(cfg))
    model.train()
    losses = model.train_step(batch(cfg, 64, 96), wrapper)
    assert all(torch.as_tensor(loss).isfinite().all() for loss in losses.values())
    moved = {k for k, p in model.named_parameters() if not torch.equal(p, before[k])}
    trained = {k for k, p in model.named_parameters() if p.requires_grad and "backbone" in k}
    assert not {k for k in trained - moved if "mask_token" not in k and "cls_token" not in k}
    names = {id(p): k for k, p in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            spared = any(word in names[id(parameter)] for word in SPARED)
            assert not (spared and group["weight_decay"]), names[id(parameter)]
    model.eval()
    assert len(model.test_step(batch(cfg, 65, 80))) == 2


def shallow(backbone: Config) -> None:
    """As few blocks as there are stages, where that is an argument."""
    if "SwinTransformer" in backbone.type:
        backbone.depths = (1, 1, 1, 1)
    if "Pyramid" in backbone.type:
        backbone.num_layers = [1, 1, 1, 1]
    backbone.pop("drop_path_rate", None)  # of two samples a branch may drop both


def decaying(cfg: Config) -> dict:
    wrapper = copy.deepcopy(cfg.optim_wrapper) | {"type": "OptimWrapper"}
    wrapper.pop("loss_scale", None)
    return wrapper
