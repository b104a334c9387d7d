"""Names of the released MambaVision weights (NVlabs/MambaVision, 7860a50), converted.

The weights are under CC-BY-NC-SA-4.0, and so is what is converted from them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmquad.backbones.mambavision import MAMBAVISION_ARCHS
from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.renames import Rule, layers_of, ratio_of, renamed, shape_of

__all__ = ["convert_mambavision", "mambavision_arch", "mambavision_norm"]

_BLOCK = r"levels\.(\d+)\.blocks\.(\d+)\."
_MIXER = _BLOCK + r"mixer\."
# One direction: an axis of length 1 goes before.
_SSM = {
    "A_log": "A_log",
    "D": "D_skip",
    "x_proj.weight": "x_proj",
    "dt_proj.weight": "dt_proj",
    "dt_proj.bias": "dt_bias",
}
_RULES: list[Rule] = [
    (r"patch_embed\.conv_down\.0\.(.+)", r"stem.conv1.\1"),
    (r"patch_embed\.conv_down\.1\.(.+)", r"stem.norm1.\1"),
    (r"patch_embed\.conv_down\.3\.(.+)", r"stem.conv2.\1"),
    (r"patch_embed\.conv_down\.4\.(.+)", r"stem.norm2.\1"),
    (r"levels\.(\d+)\.downsample\.reduction\.0\.weight", r"downsamples.\1.conv.weight"),
    (_BLOCK + r"(conv[12]|norm[12]|mlp\.fc[12])\.(.+)", r"stages.\1.\2.\3.\4"),
    (_BLOCK + r"gamma_([12])", r"stages.\1.\2.scale\3.weight"),
    *((_MIXER + re.escape(k), rf"stages.\1.\2.mixer.ssm.{v}") for k, v in _SSM.items()),
    (_MIXER + r"conv1d_([xz])\.weight", r"stages.\1.\2.mixer.conv_weight.\3"),
    (_MIXER + r"((in_proj|out_proj|qkv|proj)\..+)", r"stages.\1.\2.mixer.\3"),
    (r"outnorm(\d)\.(.+)", r"norm\1.\2"),
    (r"norm\.(.+)", r"norm3.\1"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
]


def convert_mambavision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.MambaVision` and ``head.fc``.

    The norm of a classifier becomes ``norm3``, a batch norm (``output_norm='batch'``). Gradients
    convert like weights. Names may begin with ``model.``, as in the release's safetensors files.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: Of the two convolutions of a mixer one is missing.
    """
    converted = {}
    for new_name, _, value in renamed(_own_names(state_dict), _RULES, "MambaVision"):
        converted[new_name] = value[None] if ".mixer.ssm." in new_name else value
    # One convolution of all channels here; there one of the scanned half and one of the other.
    for name in [name for name in converted if name.endswith(".conv_weight.x")]:
        whole, other = name.removesuffix(".x"), name.removesuffix("x") + "z"
        if other not in converted:
            raise CheckpointMismatchError(
                f"incomplete weights of MambaVision: conv1d_x without conv1d_z for {whole}"
            )
        converted[whole] = torch.cat([converted.pop(name), converted.pop(other)]).squeeze(1)
    return converted


def mambavision_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``MambaVisionArch``: of the published model whose widths and depths these are.

    Heads and windows have no shapes: they are those of the published model. Its windows are those
    for classification at the size that most of its weights are for.

    Args:
        state_dict: Released names and tensors.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged, or no published
            model has these sizes.
    """
    weights = _own_names(state_dict)

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(weights, name, ndim, "MambaVision")

    dim, stem_dim, _, _ = shape("patch_embed.conv_down.3.weight", 4)
    stages = layers_of(weights, r"levels\.(\d+)\.")
    depths = tuple(layers_of(weights, rf"levels\.{i}\.blocks\.(\d+)\.") for i in range(stages))
    hidden, width = shape("levels.2.blocks.0.mlp.fc1.weight", 2)
    told = {
        "dim": dim,
        "stem_dim": stem_dim,
        "depths": depths,
        "d_state": shape("levels.2.blocks.0.mixer.A_log", 2)[1],
        "mlp_ratio": ratio_of(hidden, width),
    }
    scaled = "levels.2.blocks.0.gamma_1" in weights
    for arch in MAMBAVISION_ARCHS.values():
        fields = arch._asdict()
        if fields == fields | told and scaled == (arch.layer_scale is not None):
            return fields
    raise CheckpointMismatchError(
        f"no published MambaVision has these sizes: {told}. Heads and windows cannot be told from "
        "weights: convert with convert_mambavision and name them in the config."
    )


def mambavision_norm(converted: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether converted weights have the batch norm of a classifier or LayerNorms of outputs."""
    return {"output_norm": "batch" if "norm3.running_mean" in converted else "layer"}


def _own_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without ``model.``, which Hugging Face's wrapper puts before all of them."""
    wrapped = bool(state_dict) and all(name.startswith("model.") for name in state_dict)
    return {name.removeprefix("model.") if wrapped else name: v for name, v in state_dict.items()}
