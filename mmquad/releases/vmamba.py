"""Names of the released VMamba weights (MzeroMiko/VMamba, commit 2ed52ea), converted.

Three namings exist: that of the repository, the one before it (the files of the first version),
and that of its single-file model.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmquad.releases.renames import Rule, by_direction, layers_of, ratio_of, renamed, shape_of

__all__ = ["CONV_STEM_RULES", "PATCH_RULES", "block_rules", "convert_vmamba", "vmamba_arch"]

DIRECTIONS = 4  # of the cross scan
_STAGE = r"layers\.(\d+)\.blocks\."

# Earlier and single-file names -> those of the repository.
_CURRENT: list[Rule] = [
    (r"^patch_embed\.proj\.", "patch_embed.0."),
    (r"^patch_embed\.norm\.", "patch_embed.2."),
    (r"^(layers\.\d+\.blocks\.\d+)\.ln_1\.", r"\1.norm."),
    (r"^(layers\.\d+\.blocks\.\d+)\.self_attention\.", r"\1.op."),
    (r"^norm\.", "classifier.norm."),
    (r"^head\.", "classifier.head."),
    (r"\.op\.x_proj\.weight$", ".op.x_proj_weight"),
    (r"\.op\.dt_projs\.weight$", ".op.dt_projs_weight"),
    (r"\.op\.dt_projs\.bias$", ".op.dt_projs_bias"),
]
# In order; the first pattern that matches a whole name applies.
_BLOCK_RULES: list[Rule] = [
    (r"layers\.(\d+)\.downsample\.1\.(.+)", r"downsamples.\1.conv.\2"),
    (r"layers\.(\d+)\.downsample\.3\.(.+)", r"downsamples.\1.norm.\2"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.norm\.(.+)", r"stages.\1.\2.norm1.\3"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.(norm2|mlp)\.(.+)", r"stages.\1.\2.\3.\4"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.conv2d\.(.+)", r"stages.\1.\2.mixer.conv.\3"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.x_proj_weight", r"stages.\1.\2.mixer.ssm.x_proj"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.dt_projs_weight", r"stages.\1.\2.mixer.ssm.dt_proj"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.dt_projs_bias", r"stages.\1.\2.mixer.ssm.dt_bias"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.A_logs", r"stages.\1.\2.mixer.ssm.A_log"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.Ds", r"stages.\1.\2.mixer.ssm.D_skip"),
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.out_norm\.(.+)", r"stages.\1.\2.mixer.norm.\3"),
    # in_proj, out_proj, and whatever does not belong here, which strict loading will name
    (r"layers\.(\d+)\.blocks\.(\d+)\.op\.(.+)", r"stages.\1.\2.mixer.\3"),
    (r"outnorm(\d)\.(.+)", r"norm\1.\2"),
    (r"classifier\.head\.(.+)", r"head.fc.\1"),
]
CONV_STEM_RULES: list[Rule] = [
    (r"patch_embed\.0\.(.+)", r"stem.conv1.\1"),
    (r"patch_embed\.2\.(.+)", r"stem.norm1.\1"),
    (r"patch_embed\.5\.(.+)", r"stem.conv2.\1"),
    (r"patch_embed\.7\.(.+)", r"stem.norm2.\1"),
]
PATCH_RULES: list[Rule] = [
    (r"patch_embed\.0\.(.+)", r"stem.conv.\1"),
    (r"patch_embed\.2\.(.+)", r"stem.norm.\1"),
    (r"layers\.(\d+)\.downsample\.(norm|reduction)\.(.+)", r"downsamples.\1.\2.\3"),
]


def block_rules(names: Mapping[str, Tensor]) -> list[Rule]:
    """Rules of everything but the stem, which QuadMamba and LocalVMamba have too.

    A classifier's norm is that of the last of the stages in ``names``, however many there are.
    """
    return [(r"classifier\.norm\.(.+)", rf"norm{layers_of(names, _STAGE) - 1}.\1"), *_BLOCK_RULES]


def convert_vmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes, of all three namings -> :class:`mmquad.backbones.VMamba`'s.

    Gradients convert like weights: nothing is scaled or summed.

    Raises:
        UnknownNamesError: A name is not one of a release.
        CheckpointMismatchError: The directions of an entry cannot be told.
    """
    current = _current_names(state_dict)
    stem = CONV_STEM_RULES if "patch_embed.5.weight" in current else PATCH_RULES
    return {
        new_name: by_direction(name, value, current)
        if new_name.endswith(("ssm.A_log", "ssm.D_skip"))
        else value
        for new_name, name, value in renamed(current, stem + block_rules(current), "VMamba")
    }


def _current_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of the repository's present model."""
    current = {}
    for name, value in state_dict.items():
        for pattern, replacement in _CURRENT:
            name = re.sub(pattern, replacement, name)
        current[name] = value
    # The single-file model numbers the parts of patch merging; a convolution has number 1 too.
    for name in [n for n in current if re.fullmatch(r"layers\.\d+\.downsample\.2\.weight", n)]:
        prefix = name.removesuffix("2.weight")
        current[f"{prefix}reduction.weight"] = current.pop(name)
        for part in ("weight", "bias"):
            if f"{prefix}1.{part}" in current:
                current[f"{prefix}norm.{part}"] = current.pop(f"{prefix}1.{part}")
    return {name: _current_shape(name, value) for name, value in current.items()}


def _current_shape(name: str, value: Tensor) -> Tensor:
    is_linear = re.search(r"(in_proj|out_proj|fc[12]|reduction)\.weight$", name)
    if is_linear and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)  # a 1 x 1 convolution
    axes = {"x_proj_weight": 3, "dt_projs_weight": 3, "dt_projs_bias": 2}.get(name.split(".")[-1])
    if axes == value.ndim + 1 and value.shape[0] % DIRECTIONS == 0:
        return value.unflatten(0, (DIRECTIONS, -1))
    return value


def vmamba_arch(state_dict: Mapping[str, Tensor], release: str = "VMamba") -> dict[str, Any]:
    """Fields of ``VMambaArch``, read from the shapes of released weights (of ``release``).

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """
    current = _current_names(state_dict)

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(current, name, ndim, release)

    first = "layers.0.blocks.0"
    overlap = "patch_embed.5.weight" in current or "patch_embed.7.weight" in current
    dim = shape("patch_embed.5.weight" if overlap else "patch_embed.0.weight", 4)[0]
    inner_dim = shape(f"{first}.op.x_proj_weight", 3)[2]
    stages = layers_of(current, _STAGE)
    # Widths are ratios rounded down. The last stage's, rounded least, tell those of all stages.
    last, last_dim = f"layers.{stages - 1}.blocks.0", dim * 2 ** (stages - 1)
    mlp = shape(f"{last}.mlp.fc1.weight", 2)[0] if f"{last}.mlp.fc1.weight" in current else 0
    return {
        "dim": dim,
        "depths": tuple(
            layers_of(current, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)
        ),
        "ssm_ratio": ratio_of(shape(f"{last}.op.x_proj_weight", 3)[2], last_dim),
        "d_state": shape(f"{first}.op.A_logs", 2)[1],
        "mlp_ratio": ratio_of(mlp, last_dim),
        "gate": shape(f"{first}.op.in_proj.weight", 2)[0] == 2 * inner_dim,
        "overlap": overlap,
        "conv_bias": f"{first}.op.conv2d.bias" in current,
    }
