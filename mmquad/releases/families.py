"""Telling from the names of its tensors which model a checkpoint belongs to."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["family_of", "split_model"]

# The first family of which every pattern occurs.
_FAMILIES = [
    ("QuadMamba (released)", [r"layers\.\d+\.blocks\.\d+\.op\.score_predictor\."]),
    ("mmquad", [r"(^|\.)stem\.(conv|patches)", r"(^|\.)stages\.\d+\.(\d+\.)?mixer\."]),
    ("LocalVMamba", [r"layers\.\d+\.blocks\.\d+\.op\.multi_scan\."]),
    ("LocalVim", [r"layers\.\d+\.mixer\.A_log_\d"]),
    ("MambaVision", [r"levels\.\d+\.blocks\.\d+\.", r"patch_embed\.conv_down\."]),
    ("EfficientVMamba", [r"layers\.\d+\.blocks\.\d+\.conv_branch\."]),
    ("SpatialMamba", [r"layers\.\d+\.blocks\.\d+\.self_attention\.state_fusion\."]),
    ("GroupMamba", [r"block\d+\.\d+\.attn\.mamba_g\d\."]),
    ("VMamba", [r"layers\.\d+\.blocks\.\d+\.(op|self_attention)\.(x_proj|A_logs)"]),
    ("Swin Transformer", [r"(layers|stages)\.\d+\.blocks\.\d+\.attn.*relative_position_"]),
    ("Vim", [r"layers\.\d+\.mixer\.(A_log|A_b_log|in_proj)"]),
    ("PlainMamba", [r"layers\.\d+\.mamba\.(A_log|direction_Bs|in_proj)"]),
    ("ViT (DeiT)", [r"cls_token", r"(blocks|layers)\.\d+\.attn\."]),
    ("ConvNeXt", [r"downsample_layers\.\d+\.", r"stages\.\d+\.\d+\."]),
    ("ResNet", [r"layer1\.0\.conv1\.", r"bn1\."]),
]


def family_of(names: Iterable[str]) -> str | None:
    """Name of the family of models whose parameters have such names; None if unknown.

    Example:
        >>> family_of(["cls_token", "blocks.0.attn.qkv.weight"])
        'ViT (DeiT)'
    """
    names = list(names)
    for family, patterns in _FAMILIES:
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return family
    return None


def split_model(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A backbone's entries without their prefix ``backbone.``, and those of heads and necks.

    Without that prefix everything belongs to the backbone. Averages that old trainers register
    beside the weights (``ema_*``) are left out.
    """
    own = {name: value for name, value in weights.items() if not name.startswith("ema_")}
    prefix = "backbone."
    if not any(name.startswith(prefix) for name in own):
        return own, {}
    backbone = {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
    return backbone, {k: v for k, v in own.items() if not k.startswith(prefix)}
