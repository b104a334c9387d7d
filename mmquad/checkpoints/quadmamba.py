"""Names of the released QuadMamba weights (VISION-SJTU/QuadMamba, commit 720ecc3), converted."""

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["convert_quadmamba"]

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
    """
    converted = {}
    for name, value in state_dict.items():
        new_name = _rename(name)
        if new_name.endswith(("ssm.A_log", "ssm.D_skip")):
            directions = state_dict[re.sub(r"[^.]+$", "dt_projs_bias", name)].shape[0]
            value = value.unflatten(0, (directions, -1))
        converted[new_name] = value
    return converted


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, replacement, name)
            break
    else:
        raise KeyError(f"{name!r} is not a name of the released QuadMamba weights")
    head, separator, tail = name.partition(".mixer.")
    for pattern, replacement in _MIXER_RENAMES:
        tail, count = re.subn("^" + pattern, replacement, tail)
        if count:
            break
    return head + separator + tail
