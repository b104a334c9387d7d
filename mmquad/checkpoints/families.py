"""Telling from the names of its tensors which model a checkpoint belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError

__all__ = ["family_of", "find_state_dict", "quadmamba_arch"]

_CONTAINERS = ("state_dict", "model", "module", "net")
_WRAPPERS = ("module.", "_orig_mod.", "model.")
# The first family of which every pattern occurs.
_FAMILIES = [
    ("QuadMamba (released)", [r"layers\.\d+\.blocks\.\d+\.op\.score_predictor\."]),
    ("mmquad", [r"(^|\.)stem\.conv1\.", r"(^|\.)stages\.\d+\.\d+\.mixer\."]),
    ("VMamba", [r"layers\.\d+\.blocks\.\d+\.(op|self_attention)\.(x_proj_weight|A_logs)"]),
    ("Swin Transformer", [r"(layers|stages)\.\d+\.blocks\.\d+\.attn.*relative_position_"]),
    ("Vision Mamba (Vim) or PlainMamba", [r"layers\.\d+\.mixer\.(A_log|A_b_log|in_proj)"]),
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


def quadmamba_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``QuadMambaArch``, read from the shapes of released QuadMamba weights.

    Raises:
        CheckpointMismatchError: The weights are not those of a QuadMamba.
    """
    family = family_of(state_dict)
    if family != "QuadMamba (released)":
        what = f"These are weights of: {family}" if family else "The model is not known"
        advice = (
            "They have this package's names already: load them as they are"
            if family == "mmquad"
            else "expected names such as layers.0.blocks.0.op.score_predictor.in_conv.0.weight"
        )
        raise CheckpointMismatchError(
            f"not weights of the released QuadMamba. {what}; {advice}. "
            f"The first names are {_some(state_dict)}."
        )
    depths: dict[int, int] = {}
    for name in state_dict:
        if found := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            stage, block = int(found[1]), int(found[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    first = "layers.0.blocks.0"
    dim = _sizes(state_dict, "patch_embed.5.weight", 4)[0]
    inner = _sizes(state_dict, f"{first}.op.in_proj.weight", 2)[0]
    quad = sorted(
        {int(n.split(".")[1]) for n in state_dict if ".op.score_predictor." in n} & set(depths)
    )
    return {
        "dim": dim,
        "depths": tuple(depths.get(i, 0) for i in range(max(depths) + 1)),
        "ssm_ratio": inner / dim,
        "quad_stages": tuple(quad),
        "d_state": _sizes(state_dict, f"{first}.op.A_logs", 2)[1],
        "mlp_ratio": _sizes(state_dict, f"{first}.mlp.fc1.weight", 2)[0] / dim,
    }


def _sizes(state_dict: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    if name not in state_dict:
        raise CheckpointMismatchError(f"incomplete weights of QuadMamba: {name} is missing")
    shape = tuple(state_dict[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointMismatchError(
            f"damaged weights of QuadMamba: expected {name} with {ndim} axes, got shape {shape}"
        )
    return shape


def _some(part: Any) -> list[str]:
    return [str(key) for key in part][:6] if isinstance(part, Mapping) else [type(part).__name__]
