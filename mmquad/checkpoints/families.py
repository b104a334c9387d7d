"""Telling from the names of its tensors which model a checkpoint belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError

__all__ = ["family_of", "find_state_dict", "split_model"]

_CONTAINERS = ("state_dict", "model", "module", "net")
_WRAPPERS = ("module.", "_orig_mod.", "model.")
# The first family of which every pattern occurs.
_FAMILIES = [
    ("QuadMamba (released)", [r"layers\.\d+\.blocks\.\d+\.op\.score_predictor\."]),
    ("mmquad", [r"(^|\.)stem\.(conv|patches)", r"(^|\.)stages\.\d+\.(\d+\.)?mixer\."]),
    ("LocalVMamba", [r"layers\.\d+\.blocks\.\d+\.op\.multi_scan\."]),
    ("LocalVim", [r"layers\.\d+\.mixer\.A_log_\d"]),
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


def find_state_dict(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """Names and tensors of a model, wherever in the file they are.

    Follows ``state_dict``, ``model``, ``module`` and ``net`` as deep as they are nested, and
    removes what DistributedDataParallel and ``torch.compile`` put before every name.

    Args:
        checkpoint: Content of the file.
        key: Dotted path to the weights, such as ``model_ema``, where the file has several.

    Raises:
        CheckpointMismatchError: There are no tensors, or not under ``key``.
    """
    part: Any = checkpoint
    if key is not None:
        for word in key.split("."):
            if not isinstance(part, Mapping) or word not in part:
                raise CheckpointMismatchError(
                    f"the file has no {key!r}; its keys are {_some(part)}"
                )
            part = part[word]
    while isinstance(part, Mapping) and not any(isinstance(v, Tensor) for v in part.values()):
        inner = next((k for k in _CONTAINERS if isinstance(part.get(k), Mapping)), None)
        if inner is None:
            raise CheckpointMismatchError(
                f"no weights found: expected tensors under one of {', '.join(_CONTAINERS)}; the "
                f"keys are {_some(part)}. Name the place of the weights with key= (--key)."
            )
        part = part[inner]
    if not isinstance(part, Mapping):
        raise CheckpointMismatchError(f"expected a dictionary of weights, got {type(part)}")
    weights = {str(name): value for name, value in part.items() if isinstance(value, Tensor)}
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in weights)), None):
        weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights


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


def _some(part: Any) -> list[str]:
    return [str(key) for key in part][:6] if isinstance(part, Mapping) else [type(part).__name__]
