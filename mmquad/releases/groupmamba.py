"""Names of the released GroupMamba weights (Amshaker/GroupMamba, c1800ed), converted."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.renames import Rule, layers_of, ratio_of, renamed, shape_of

__all__ = ["convert_groupmamba", "groupmamba_arch", "groupmamba_output"]

# Stages and groups count from 1 there, from 0 here; the rules keep their numbers.
_COUNTED = re.compile(r"(?<=^stages\.)\d+|(?<=^norm)\d+|(?<=\.groups\.)\d+")
_PARTS = {r"block(\d+)\.(\d+)\.": r"stages.\1.\2.", r"post_network()()\.0\.": "class_block."}
# One direction in each group: an axis of length 1 goes before.
_UNSQUEEZED = (".A_log", ".D_skip")
_GROUP = {
    "A_logs": "ssm.A_log",
    "Ds": "ssm.D_skip",
    "x_proj_weight": "ssm.x_proj",
    "dt_projs_weight": "ssm.dt_proj",
    "dt_projs_bias": "ssm.dt_bias",
    r"conv2d\.(weight|bias)": r"conv.\4",
    r"out_norm\.(weight|bias)": r"norm.\4",
    r"(in_proj|out_proj)\.weight": r"\4.weight",
}
_BLOCK = {
    **{rf"attn\.mamba_g(\d)\.{k}": rf"mixer.groups.\3.{v}" for k, v in _GROUP.items()},
    r"attn\.norm\.(.+)": r"norm1.\3",
    r"attn\.proj\.(.+)": r"proj.\3",
    r"attn\.fc1\.(.+)": r"mixer.reduce.\3",
    r"attn\.fc2\.(.+)": r"mixer.expand.\3",
    r"attn\.skip_scale": "mixer.scale",
    r"mlp\.dwconv\.dwconv\.(.+)": r"mlp.conv.\3",
    r"norm1\.(.+)": r"branch_norm.\3",  # of the class block
    r"(norm2|mlp\.fc[12])\.(.+)": r"\3.\4",
}
_RULES: list[Rule] = [
    (r"patch_embed1\.conv\.(.+)", r"stem.convs.\1"),
    (r"patch_embed1\.proj\.(.+)", r"stem.patches.conv.\1"),
    (r"patch_embed1\.norm\.(.+)", r"stem.patches.norm.\1"),
    *((rf"patch_embed{i}\.proj\.(.+)", rf"downsamples.{i - 2}.conv.\1") for i in (2, 3, 4)),
    *((rf"patch_embed{i}\.norm\.(.+)", rf"downsamples.{i - 2}.norm.\1") for i in (2, 3, 4)),
    *((p + k, q + v) for p, q in _PARTS.items() for k, v in _BLOCK.items()),
    (r"norm(\d)\.(.+)", r"norm\1.\2"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
    (r"dist_head\.(weight|bias)", r"dist_head.\1"),
]


def convert_groupmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.GroupMamba` and ``head.fc``.

    The published weights have two heads, one of which learned from a teacher, and average their
    logits. Linear as they are, one head with the averages of their weights gives the same.

    Gradients convert like weights, but for those of the heads.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: The two heads are of different shapes, or the first is missing.
    """
    converted = {}
    for name, _, value in renamed(state_dict, _RULES, "GroupMamba"):
        new_name = _COUNTED.sub(lambda number: str(int(number[0]) - 1), name)
        converted[new_name] = value[None] if name.endswith(_UNSQUEEZED) else value
    for kind in ("weight", "bias"):
        distilled = converted.pop(f"dist_head.{kind}", None)
        if distilled is None:
            continue
        head = converted.get(f"head.fc.{kind}")
        if head is None or head.shape != distilled.shape:
            raise CheckpointMismatchError(
                f"expected head.{kind} of the shape of dist_head.{kind}, "
                f"{tuple(distilled.shape)}, got {None if head is None else tuple(head.shape)}"
            )
        converted[f"head.fc.{kind}"] = (head + distilled) / 2
    return converted


def groupmamba_arch(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ``GroupMambaArch``, read from the shapes of released weights.

    Args:
        state_dict: Released names and tensors.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(state_dict, name, ndim, "GroupMamba")

    stages = range(1, layers_of(state_dict, r"block(\d+)\."))
    dims = tuple(shape(f"patch_embed{i}.proj.weight", 4)[0] for i in stages)
    return {
        "dims": dims,
        "stem_dim": shape("patch_embed1.conv.0.weight", 4)[0],
        "depths": tuple(layers_of(state_dict, rf"block{i}\.(\d+)\.") for i in stages),
        "mlp_ratios": tuple(
            int(ratio_of(shape(f"block{i}.0.mlp.fc1.weight", 2)[0], dim))
            for i, dim in zip(stages, dims, strict=True)
        ),
    }


def groupmamba_output(converted: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether converted weights have the block of a classifier's class token."""
    is_classifier = any(name.startswith("class_block.") for name in converted)
    return {"out_type": "class_token" if is_classifier else "map"}
