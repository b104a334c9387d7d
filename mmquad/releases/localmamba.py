"""Names of the released LocalMamba weights (hunto/LocalMamba, commit 75e5d1f), converted.

A file does not hold its directions: direction k of a layer is position k in the list that the model
was built with, and all lists have weights of the same shapes. So nothing here tells an architecture
from a file; whoever converts one has to name it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.renames import Rule, by_direction, layers_of, renamed, shape_of
from mmquad.releases.vim import separate_positions
from mmquad.releases.vmamba import PATCH_RULES, block_rules

__all__ = ["convert_localvim", "convert_localvmamba"]

_OP = r"layers\.(\d+)\.blocks\.(\d+)\.op\.multi_scan\."
_LOCALVMAMBA: list[Rule] = [
    (_OP + r"attn\.norm\.(.+)", r"stages.\1.\2.mixer.combine.norm.\3"),
    (_OP + r"attn\.global_reduce\.(.+)", r"stages.\1.\2.mixer.combine.reduce.\3"),
    (_OP + r"attn\.channel_select\.(.+)", r"stages.\1.\2.mixer.combine.expand.\3"),
    (_OP + r"weights", r"stages.\1.\2.mixer.combine.alpha"),
    *PATCH_RULES,
]
_MIXER = r"layers\.(\d+)\.mixer\."
_LOCALVIM: list[Rule] = [
    (r"patch_embed\.proj\.(.+)", r"stem.conv.\1"),
    (r"head\.(.+)", r"head.fc.\1"),
    (r"layers\.(\d+)\.norm\.(weight|bias)", r"stages.\1.norm1.\2"),
    (_MIXER + r"(in_proj|out_proj)\.weight", r"stages.\1.mixer.\2.weight"),
    (_MIXER + r"attn\.norm\.(.+)", r"stages.\1.mixer.combine.norm.\2"),
    (_MIXER + r"attn\.global_reduce\.(.+)", r"stages.\1.mixer.combine.reduce.\2"),
    (_MIXER + r"attn\.channel_select\.(.+)", r"stages.\1.mixer.combine.expand.\2"),
    (_MIXER + r"multi_scan\.weights", r"stages.\1.mixer.combine.alpha"),
]
# Each direction has parameters of its own, which become rows of one tensor.
_DIRECTIONS = {
    "ssm.A_log": "A_log_{}",
    "ssm.D_skip": "D_{}",
    "ssm.x_proj": "x_proj_{}.weight",
    "ssm.dt_proj": "dt_proj_{}.weight",
    "ssm.dt_bias": "dt_proj_{}.bias",
    "conv_weight": "conv1d_{}.weight",
    "conv_bias": "conv1d_{}.bias",
}


def convert_localvmamba(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.LocalVMamba`.

    The classifier becomes the last stage's norm and ``head.fc``. Gradients convert like weights.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: The directions of an entry cannot be told.
    """
    rules = _LOCALVMAMBA + block_rules(state_dict)
    return {
        new_name: by_direction(name, value, state_dict)
        if new_name.endswith(("ssm.A_log", "ssm.D_skip"))
        else _flat_alpha(new_name, value)
        for new_name, name, value in renamed(state_dict, rules, "LocalVMamba")
    }


def convert_localvim(
    state_dict: Mapping[str, Tensor],
    *,
    out_indices: Sequence[int] = (4, 9, 14, 19),
    grid: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.LocalVim` and ``head.fc``.

    Positions as in :func:`mmquad.releases.vim.convert_vim`. Tables of the rotary embedding are
    left out: the model computes its own. Gradients convert like weights. The tensors of a layer's
    directions are copied to rows of one, so that none of them can be another's alias.

    The release's backbone of detectors has no final norm, but one per output (``outnorm_0`` and so
    on, numbered without regard to the layer), for ``features='mixer'``.

    Args:
        state_dict: Released names and tensors.
        out_indices: The layers whose outputs these norms are for, as in the release's backbone.
        grid: See :func:`mmquad.releases.vim.separate_positions`.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: An entry is missing or its shape makes no sense.
    """
    depth = layers_of(state_dict, r"layers\.(\d+)\.")
    shape_of(state_dict, "pos_embed", 3, "LocalVim")  # what separate_positions says names Vim
    left_out = {"cls_token", "pos_embed", "rope.freqs_cos", "rope.freqs_sin"}
    converted, stacked = {}, set()
    for i in range(depth):
        prefix = f"layers.{i}.mixer."
        directions = layers_of(state_dict, rf"layers\.{i}\.mixer\.A_log_(\d+)")
        if not directions:
            raise CheckpointMismatchError(f"incomplete weights of LocalVim: no {prefix}A_log_0")
        for new_name, pattern in _DIRECTIONS.items():
            names = [prefix + pattern.format(k) for k in range(directions)]
            value = _stack(state_dict, names)
            # a depthwise Conv1d has an axis of one input channel
            value = value.squeeze(2) if new_name == "conv_weight" else value
            converted[f"stages.{i}.mixer.{new_name}"] = value
            stacked |= set(names)
    others = {k: v for k, v in state_dict.items() if k not in left_out | stacked}
    norms = [(r"norm_f\.(weight|bias)", rf"norm{depth - 1}.\1")]
    norms += [(rf"outnorm_{n}\.(.+)", rf"norm{i}.\1") for n, i in enumerate(out_indices)]
    for new_name, _, value in renamed(others, _LOCALVIM + norms, "LocalVim"):
        converted[new_name] = _flat_alpha(new_name, value)
    if not {"norm_f.weight", "outnorm_0.weight"} & state_dict.keys():
        raise CheckpointMismatchError("incomplete weights of LocalVim: norm_f.weight is missing")
    return converted | separate_positions(state_dict, grid)


def _stack(state_dict: Mapping[str, Tensor], names: list[str]) -> Tensor:
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise CheckpointMismatchError(f"incomplete weights of LocalVim: {missing[0]} is missing")
    shapes = {name: tuple(state_dict[name].shape) for name in names}
    if len(set(shapes.values())) != 1:
        raise CheckpointMismatchError(f"expected equal shapes of all directions, got {shapes}")
    return torch.stack([state_dict[name] for name in names])


def _flat_alpha(new_name: str, value: Tensor) -> Tensor:
    """The weights of the search, ``[K, 1, 1, 1]``, as ``[K]``."""
    return value.flatten() if new_name.endswith("combine.alpha") else value
