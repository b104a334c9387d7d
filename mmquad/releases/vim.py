"""Names of the released Vim weights (hustvl/Vim, commit dd0358a), converted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.renames import Rule, grid_of, layers_of, ratio_of, renamed, shape_of

__all__ = ["convert_vim", "separate_positions", "vim_arch"]

_LAYER = r"layers\.(\d+)\."
# The second direction of a parameter has another name; both become rows of one tensor.
_DIRECTIONS = {
    "ssm.A_log": ("A_log", "A_b_log"),
    "ssm.D_skip": ("D", "D_b"),
    "ssm.x_proj": ("x_proj.weight", "x_proj_b.weight"),
    "ssm.dt_proj": ("dt_proj.weight", "dt_proj_b.weight"),
    "ssm.dt_bias": ("dt_proj.bias", "dt_proj_b.bias"),
    "conv_weight": ("conv1d.weight", "conv1d_b.weight"),
    "conv_bias": ("conv1d.bias", "conv1d_b.bias"),
}
_RULES: list[Rule] = [
    (r"patch_embed\.proj\.(.+)", r"stem.conv.\1"),
    (r"head\.(.+)", r"head.fc.\1"),
    (_LAYER + r"norm\.(weight|bias)", r"stages.\1.norm1.\2"),
    (_LAYER + r"mixer\.(in_proj|out_proj)\.weight", r"stages.\1.mixer.\2.weight"),
]


def convert_vim(
    state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.Vim` and ``head.fc``.

    ``pos_embed`` has one position per patch and, if there is a class token, that token's in the
    middle, at M // 2 of M patches (98 of 196, 364 of 729). The two are separated. Gradients convert
    like weights.

    Args:
        state_dict: Released names and tensors.
        grid: See :func:`separate_positions`.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: An entry is missing or its shape makes no sense.
    """
    depth = layers_of(state_dict, _LAYER)
    special = ("cls_token", "pos_embed")
    paired = {
        f"layers.{i}.mixer.{name}"
        for i in range(depth)
        for names in _DIRECTIONS.values()
        for name in names
    }
    others = {k: v for k, v in state_dict.items() if k not in paired and k not in special}
    rules = [(r"norm_f\.(weight|bias)", rf"norm{depth - 1}.\1"), *_RULES]
    converted = {new_name: value for new_name, _, value in renamed(others, rules, "Vim")}
    for i in range(depth):
        for new_name, (forwards, backwards) in _DIRECTIONS.items():
            pair = [_take(state_dict, f"layers.{i}.mixer.{n}") for n in (forwards, backwards)]
            if pair[0].shape != pair[1].shape:
                raise CheckpointMismatchError(
                    f"expected equal shapes of {forwards} and {backwards} in layer {i}, got "
                    f"{tuple(pair[0].shape)} and {tuple(pair[1].shape)}"
                )
            value = torch.stack(pair)
            # a depthwise Conv1d has an axis of one input channel
            converted[f"stages.{i}.mixer.{new_name}"] = (
                value.squeeze(2) if new_name == "conv_weight" else value
            )
    _take(state_dict, "norm_f.weight")
    return converted | separate_positions(state_dict, grid)


def separate_positions(
    state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Positions of the patches as a grid, and the class token with its own, if there is one.

    Args:
        state_dict: Released names and tensors.
        grid: Rows and columns of patches. Default: a square, as all published weights have it.

    Raises:
        CheckpointMismatchError: There are no positions, or they do not form the grid.
    """
    positions = _take(state_dict, "pos_embed")
    if positions.ndim != 3:
        raise CheckpointMismatchError(f"expected pos_embed [1, L, C], got {tuple(positions.shape)}")
    converted = {}
    if "cls_token" in state_dict:
        middle = (positions.shape[1] - 1) // 2
        converted["class_token.token"] = state_dict["cls_token"]
        converted["class_token.position"] = positions[:, middle : middle + 1]
        positions = torch.cat([positions[:, :middle], positions[:, middle + 1 :]], dim=1)
    grid = grid_of("pos_embed", positions.shape[1], grid)
    return converted | {"positions.table": positions.unflatten(1, grid)}


def _take(state_dict: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state_dict:
        raise CheckpointMismatchError(f"incomplete weights of Vim: {name} is missing")
    return state_dict[name]


def vim_arch(
    state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Fields of ``VimArch``, read from the shapes of released weights.

    The distance of patches leaves no trace in a shape: it is the one that gives the grid of the
    positions on an image of 224 x 224, if there is one, else the patches do not overlap.

    Args:
        state_dict: Released names and tensors.
        grid: See :func:`separate_positions`.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing.
    """
    dim, _, patch_size, _ = shape_of(state_dict, "patch_embed.proj.weight", 4, "Vim")
    rows, columns = separate_positions(state_dict, grid)["positions.table"].shape[1:3]
    stride, rest = divmod(224 - patch_size, max(rows - 1, 1))
    inner_dim, d_state = shape_of(state_dict, "layers.0.mixer.A_log", 2, "Vim")
    return {
        "dim": dim,
        "depth": layers_of(state_dict, _LAYER),
        "patch_size": patch_size,
        "stride": stride if rest == 0 and 0 < stride <= patch_size else patch_size,
        "grid": (rows, columns),
        "ssm_ratio": ratio_of(inner_dim, dim),
        "d_state": d_state,
        "norm": "layer" if "norm_f.bias" in state_dict else "rms",
        "cover": True,
    }
