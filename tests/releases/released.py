"""Weights under the names and in the shapes of the QuadMamba release, made from a model here."""

import re

import torch
from torch import Tensor

from mmquad.backbones import QuadMamba

SMALL = {"dim": 8, "depths": (2, 1, 1, 1), "ssm_ratio": 2.0}

_RENAMES = [
    (r"^stem\.conv1", "patch_embed.0"),
    (r"^stem\.norm1", "patch_embed.2"),
    (r"^stem\.conv2", "patch_embed.5"),
    (r"^stem\.norm2", "patch_embed.7"),
    (r"^downsamples\.(\d)\.conv", r"layers.\1.downsample.1"),
    (r"^downsamples\.(\d)\.norm", r"layers.\1.downsample.3"),
    (r"^stages\.(\d)\.(\d+)\.", r"layers.\1.blocks.\2."),
    (r"blocks\.(\d+)\.norm1\.", r"blocks.\1.norm."),
    (r"\.mixer\.", ".op."),
    (r"op\.conv\.", "op.conv2d."),
    (r"op\.ssm\.x_proj", "op.x_proj_weight"),
    (r"op\.ssm\.dt_proj", "op.dt_projs_weight"),
    (r"op\.ssm\.dt_bias", "op.dt_projs_bias"),
    (r"op\.ssm\.A_log", "op.A_logs"),
    (r"op\.ssm\.D_skip", "op.Ds"),
    (r"op\.norm\.", "op.out_norm."),
    (r"op\.selector\.embed\.", "op.score_predictor.in_conv."),
    (r"op\.selector\.head\.", "op.score_predictor.out_conv."),
]


def small_model(**options) -> QuadMamba:
    """A small classifier's backbone."""
    return QuadMamba(SMALL, **{"out_indices": (3,), "quadtree": "released", **options})


def released_weights(num_classes: int | None = 5) -> dict[str, Tensor]:
    """A released classifier, or with None a backbone with an output norm per stage."""
    torch.manual_seed(0)
    model = small_model() if num_classes else small_model(out_indices=(0, 1, 2, 3))
    weights = {}
    for name, value in model.state_dict().items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        final = "classifier.norm" if num_classes else r"outnorm\1"
        name = re.sub(r"^norm(\d)", final, name)
        # other than what a fresh model has, so that nothing fits by chance
        value = value.flatten(0, 1) if name.endswith(("A_logs", "Ds")) else value
        weights[name] = value + 0.1 * torch.randn_like(value)
    if num_classes:
        weights["classifier.head.weight"] = torch.randn(num_classes, 64)
        weights["classifier.head.bias"] = torch.randn(num_classes)
    return weights
