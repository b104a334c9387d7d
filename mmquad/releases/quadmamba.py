"""Names of the released QuadMamba weights (VISION-SJTU/QuadMamba, commit 720ecc3), converted."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmquad.releases.renames import Rule, UnknownNamesError, by_direction, renamed
from mmquad.releases.vmamba import CONV_STEM_RULES, block_rules, vmamba_arch

__all__ = ["UnknownNamesError", "convert_quadmamba", "quadmamba_arch"]

_PREDICTOR = r"layers\.(\d+)\.blocks\.(\d+)\.op\.score_predictor\."
_RULES: list[Rule] = [
    (_PREDICTOR + r"in_conv\.(.+)", r"stages.\1.\2.mixer.selector.embed.\3"),
    (_PREDICTOR + r"out_conv\.(.+)", r"stages.\1.\2.mixer.selector.head.\3"),
    *CONV_STEM_RULES,
]


def convert_quadmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.QuadMamba`.

    The classifier becomes the last stage's norm and ``head.fc``. Gradients convert like weights:
    nothing is scaled or summed, ``A_logs [K D, N]`` and ``Ds [K D]`` are split by direction.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: The directions of an entry cannot be told.
    """
    rules = _RULES + block_rules(state_dict)
    return {
        new_name: by_direction(name, value, state_dict)
        if new_name.endswith(("ssm.A_log", "ssm.D_skip"))
        else value
        for new_name, name, value in renamed(state_dict, rules, "QuadMamba")
    }


def quadmamba_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``QuadMambaArch``, read from the shapes of released weights.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """
    fields = vmamba_arch(state_dict, "QuadMamba")
    stages = range(len(fields["depths"]))
    quad = {int(found[1]) for name in state_dict if (found := re.match(_PREDICTOR, name))}
    shared = ("dim", "depths", "ssm_ratio", "d_state", "mlp_ratio", "conv_bias")
    return {name: fields[name] for name in shared} | {
        "quad_stages": tuple(sorted(quad & set(stages)))
    }
