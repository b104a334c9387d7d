"""Names of the released EfficientVMamba weights (TerryPei/EfficientVMamba, 0bc5ee2), converted."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmquad.releases.renames import (
    Rule,
    by_direction,
    layers_of,
    ratio_of,
    renamed,
    shape_of,
)

__all__ = ["convert_efficientvmamba", "efficientvmamba_arch"]

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_OP = _BLOCK + r"(?:op|self_attention)\."  # older files have the second name
_SSM = {
    "A_logs": "A_log",
    "Ds": "D_skip",
    "x_proj_weight": "x_proj",
    "dt_projs_weight": "dt_proj",
    "dt_projs_bias": "dt_bias",
}
_RESIDUAL = {
    "conv_pw.0": "expand",
    "conv_pw.1": "norm1",
    "conv_dw.0": "conv",
    "conv_dw.1": "norm2",
    "se.conv_reduce": "squeeze",
    "se.conv_expand": "excite",
    "conv_pw2.0": "reduce",
    "conv_pw2.1": "norm3",
}
_RULES: list[Rule] = [
    (r"patch_embed\.(?:0|proj)\.(.+)", r"stem.conv.\1"),
    (r"patch_embed\.(?:2|norm)\.(.+)", r"stem.norm.\1"),
    (r"layers\.(\d+)\.downsample\.(.+)", r"downsamples.\1.\2"),
    # of a stage of inverted residuals, after the last of them
    (r"layers\.(\d+)\.\d+\.((reduction|norm)\..+)", r"downsamples.\1.\2"),
    *(
        (rf"layers\.(\d+)\.(\d+)\.{re.escape(k)}\.(.+)", rf"stages.\1.\2.{v}.\3")
        for k, v in _RESIDUAL.items()
    ),
    *((_OP + k, rf"stages.\1.\2.mixer.ssm.{v}") for k, v in _SSM.items()),
    (_OP + r"conv2d\.(.+)", r"stages.\1.\2.mixer.conv.\3"),
    (_OP + r"out_norm\.(.+)", r"stages.\1.\2.mixer.norm.\3"),
    (_OP + r"((in_proj|out_proj)\..+)", r"stages.\1.\2.mixer.\3"),
    (_BLOCK + r"(?:norm|ln_1)\.(.+)", r"stages.\1.\2.norm1.\3"),
    (_BLOCK + r"conv_branch\.0\.(.+)", r"stages.\1.\2.conv.\3"),
    (_BLOCK + r"conv_branch\.1\.(.+)", r"stages.\1.\2.conv_norm.\3"),
    (_BLOCK + r"conv_branch\.3\.(.+)", r"stages.\1.\2.conv_proj.\3"),
    (_BLOCK + r"se\.norm\.(.+)", r"stages.\1.\2.attention.norm.\3"),
    (_BLOCK + r"se\.global_reduce\.(.+)", r"stages.\1.\2.attention.reduce.\3"),
    (_BLOCK + r"se\.channel_select\.(.+)", r"stages.\1.\2.attention.expand.\3"),
    (r"outnorm(\d)\.(.+)", r"norm\1.\2"),
    (r"classifier\.norm\.(.+)", r"norm3.\1"),
    (r"classifier\.head\.(weight|bias)", r"head.fc.\1"),
]


def convert_efficientvmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of ``mmquad.backbones.EfficientVMamba`` and ``head.fc``.

    Gradients convert like weights.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: A shape makes no sense.
    """
    converted = {}
    for new_name, name, value in renamed(state_dict, _RULES, "EfficientVMamba"):
        if name.endswith((".A_logs", ".Ds")):
            value = by_direction(name, value, state_dict)
        # Inverted residuals are numbered from 1: what is before them turns the map round.
        residual = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", new_name)
        if residual and ".blocks." not in name:
            stage, index, rest = residual.groups()
            new_name = f"stages.{stage}.{int(index) - 1}.{rest}"
        converted[new_name] = value
    return converted


def efficientvmamba_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``EfficientVMambaArch``, read from the shapes of released weights.

    Args:
        state_dict: Released names and tensors.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """

    is_older = "patch_embed.proj.weight" in state_dict
    stem, op = ("patch_embed.proj", "self_attention") if is_older else ("patch_embed.0", "op")

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(state_dict, name, ndim, "EfficientVMamba")

    dim = shape(f"{stem}.weight", 4)[0]
    depths, scans = [], 0
    for i in range(layers_of(state_dict, r"layers\.(\d+)\.")):
        blocks = layers_of(state_dict, rf"layers\.{i}\.blocks\.(\d+)\.")
        scans += blocks > 0
        depths.append(blocks or layers_of(state_dict, rf"layers\.{i}\.(\d+)\.conv_pw\.") - 1)
    inner = shape(f"layers.0.blocks.0.{op}.in_proj.weight", 2)[0] // 2
    return {
        "dim": dim,
        "depths": tuple(depths),
        "scan_stages": scans,
        "ssm_ratio": ratio_of(inner, dim),
        "d_state": shape(f"layers.0.blocks.0.{op}.A_logs", 2)[1],
    }
