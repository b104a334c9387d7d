"""Names of the released Spatial-Mamba weights (EdwardChasel/Spatial-Mamba, 71221eb), converted."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.renames import Rule, layers_of, ratio_of, renamed, shape_of

__all__ = ["convert_spatialmamba", "spatialmamba_arch"]

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_MIXER = _BLOCK + r"self_attention\."
# One direction: an axis of length 1 goes before.
_SSM = {
    "A_logs": "A_log",
    "Ds": "D_skip",
    "x_proj_weight": "x_proj",
    "dt_projs_weight": "dt_proj",
    "dt_projs_bias": "dt_bias",
}
_KERNELS = ("kernel_3", "kernel_3_1", "kernel_3_2")  # of dilation 1, 3, 5
_STEM = {"conv1": 1, "conv2.0": 2, "conv2.1": 3, "conv3.0": 4, "conv3.1": 5}
_DOWN = ("expand", "conv", "reduce")
_RULES: list[Rule] = [
    *(
        (rf"patch_embed\.{re.escape(k)}\.(conv|norm)\.(.+)", rf"stem.\g<1>{i}.\2")
        for k, i in _STEM.items()
    ),
    *(
        (rf"layers\.(\d+)\.downsample\.conv\.{i}\.conv\.(.+)", rf"downsamples.\1.{part}.\2")
        for i, part in enumerate(_DOWN)
    ),
    (r"layers\.(\d+)\.downsample\.conv\.2\.norm\.(.+)", r"downsamples.\1.norm.\2"),
    (_BLOCK + r"cpe([12])\.(.+)", r"stages.\1.\2.position\3.\4"),
    (_BLOCK + r"ln_([12])\.(.+)", r"stages.\1.\2.norm\3.\4"),
    (_BLOCK + r"(mlp\.fc[12]\..+)", r"stages.\1.\2.\3"),
    *((_MIXER + k, rf"stages.\1.\2.mixer.ssm.{v}") for k, v in _SSM.items()),
    (_MIXER + r"state_fusion\.alpha", r"stages.\1.\2.mixer.fusion.alpha"),
    (_MIXER + r"state_fusion\.(kernel_3(?:_[12])?)", r"stages.\1.\2.mixer.fusion.weight.\3"),
    (_MIXER + r"conv2d\.(.+)", r"stages.\1.\2.mixer.conv.\3"),
    (_MIXER + r"out_norm\.(.+)", r"stages.\1.\2.mixer.norm.\3"),
    (_MIXER + r"((in_proj|out_proj)\..+)", r"stages.\1.\2.mixer.\3"),
    (r"outnorm(\d)\.(.+)", r"norm\1.\2"),
    (r"norm\.(.+)", r"norm3.\1"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
]


def convert_spatialmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.SpatialMamba` and ``head.fc``.

    The release puts v before the gate in ``in_proj``, as here. Gradients convert like weights.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: Of the three kernels of a block one is missing.
    """
    converted = {}
    for new_name, _, value in renamed(state_dict, _RULES, "Spatial-Mamba"):
        converted[new_name] = value[None] if ".mixer.ssm." in new_name else value
    end = f".fusion.weight.{_KERNELS[0]}"
    for name in [name for name in converted if name.endswith(end)]:
        whole = name.removesuffix(f".{_KERNELS[0]}")
        parts = [converted.pop(f"{whole}.{kernel}", None) for kernel in _KERNELS]
        if any(part is None for part in parts):
            raise CheckpointMismatchError(
                f"incomplete weights of Spatial-Mamba: expected {', '.join(_KERNELS)} for {whole}"
            )
        converted[whole] = torch.cat([p for p in parts if p is not None], dim=1).transpose(0, 1)
    return converted


def spatialmamba_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``SpatialMambaArch``, read from the shapes of released weights.

    Args:
        state_dict: Released names and tensors.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(state_dict, name, ndim, "Spatial-Mamba")

    dim = shape("patch_embed.conv3.1.conv.weight", 4)[0]
    stages = layers_of(state_dict, r"layers\.(\d+)\.")
    first = "layers.0.blocks.0."
    return {
        "dim": dim,
        "depths": tuple(
            layers_of(state_dict, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)
        ),
        "ssm_ratio": ratio_of(shape(f"{first}self_attention.out_proj.weight", 2)[1], dim),
        "mlp_ratio": ratio_of(shape(f"{first}mlp.fc1.weight", 2)[0], dim),
    }
