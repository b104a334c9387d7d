"""Names of the released QuadMamba weights (VISION-SJTU/QuadMamba, commit 720ecc3), converted."""

import re
from collections.abc import Mapping

from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError

__all__ = ["UnknownNamesError", "convert_quadmamba"]


class UnknownNamesError(CheckpointMismatchError, KeyError):
    """Names of a checkpoint are not those of the release."""

    __str__ = RuntimeError.__str__  # KeyError's would quote the message


# In order; the first pattern that matches a whole name applies.
_RENAMES = [
    (r"patch_embed\.0\.(.+)", r"stem.conv1.\1"),
    (r"patch_embed\.2\.(.+)", r"stem.norm1.\1"),
    (r"patch_embed\.5\.(.+)", r"stem.conv2.\1"),
    (r"patch_embed\.7\.(.+)", r"stem.norm2.\1"),
    (r"layers\.(\d+)\.downsample\.1\.(.+)", r"downsamples.\1.conv.\2"),
    (r"layers\.(\d+)\.downsample\.3\.(.+)", r"downsamples.\1.norm.\2"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.norm\.(.+)", r"stages.\1.\2.norm1.\3"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.norm2\.(.+)", r"stages.\1.\2.norm2.\3"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.mlp\.(.+)", r"stages.\1.\2.mlp.\3"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.(.+)", r"stages.\1.\2.mixer.\3"),
    (r"outnorm(\d)\.(.+)", r"norm\1.\2"),
    (r"classifier\.norm\.(.+)", r"norm3.\1"),
    (r"classifier\.head\.(.+)", r"head.fc.\1"),
]
_MIXER_RENAMES = [
    (r"conv2d\.", "conv."),
    (r"x_proj_weight$", "ssm.x_proj"),
    (r"dt_projs_weight$", "ssm.dt_proj"),
    (r"dt_projs_bias$", "ssm.dt_bias"),
    (r"A_logs$", "ssm.A_log"),
    (r"Ds$", "ssm.D_skip"),
    (r"out_norm\.", "norm."),
    (r"score_predictor\.in_conv\.", "selector.embed."),
    (r"score_predictor\.out_conv\.", "selector.head."),
]


def convert_quadmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.QuadMamba`.

    The classifier becomes ``norm3`` and ``head.fc``. Gradients convert like weights: nothing is
    scaled or summed, ``A_logs [K D, N]`` and ``Ds [K D]`` are split by direction.

    Raises:
        KeyError: A name is not one of the release.
        CheckpointMismatchError: The directions of an entry cannot be told.
    """
    unknown = [name for name in state_dict if not _is_released(name)]
    if unknown:
        raise UnknownNamesError(
            f"{unknown[0]!r} is not a name of the released QuadMamba weights, nor are "
            f"{len(unknown) - 1} others{''.join(f', {name!r}' for name in unknown[1:8])}"
        )
    converted = {}
    for name, value in state_dict.items():
        new_name = _rename(name)
        if new_name.endswith(("ssm.A_log", "ssm.D_skip")):
            value = _by_direction(name, value, state_dict)
        if new_name in converted:
            raise CheckpointMismatchError(f"{name!r} and another entry both become {new_name!r}")
        converted[new_name] = value
    return converted


def _by_direction(name: str, value: Tensor, state_dict: Mapping[str, Tensor]) -> Tensor:
    bias_name = re.sub(r"[^.]+$", "dt_projs_bias", name)
    bias = state_dict.get(bias_name)
    if bias is None or bias.ndim != 2 or value.ndim == 0 or value.shape[0] != bias.numel():
        raise CheckpointMismatchError(
            f"expected {name} [K D, ...] beside {bias_name} [K, D], got {tuple(value.shape)} and "
            f"{None if bias is None else tuple(bias.shape)}"
        )
    return value.unflatten(0, (bias.shape[0], -1))


def _is_released(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern, _ in _RENAMES)


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, replacement, name)
            break
    head, separator, tail = name.partition(".mixer.")
    for pattern, replacement in _MIXER_RENAMES:
        tail, count = re.subn("^" + pattern, replacement, tail)
        if count:
            break
    return head + separator + tail
