"""Names of the released PlainMamba weights (ChenhongyiYang/PlainMamba, 0975a1d), converted."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmquad.releases.renames import Rule, grid_of, layers_of, ratio_of, renamed, shape_of

__all__ = ["convert_plainmamba", "plainmamba_arch"]

_LAYER = r"layers\.(\d+)\."
# One set of parameters for all directions: an axis of length 1 goes before.
_SHARED = {
    "A_log": "ssm.A_log",
    "D": "ssm.D_skip",
    "x_proj.weight": "ssm.x_proj",
    "dt_proj.weight": "ssm.dt_proj",
    "dt_proj.bias": "ssm.dt_bias",
}
_RULES: list[Rule] = [
    (r"pos_embed", "positions.table"),
    (r"patch_embed\.stem\.(0|1)\.(.+)", r"stem.convs.\1.\2"),
    (r"patch_embed\.projection\.(.+)", r"stem.patches.conv.\1"),
    (r"norm_layer(\d+)\.(.+)", r"norm\1.\2"),
    (r"head\.fc\.(.+)", r"head.fc.\1"),
    (_LAYER + r"norm\.(.+)", r"stages.\1.norm1.\2"),
    (_LAYER + r"dw\.0\.(.+)", r"stages.\1.1.conv.\2"),
    (_LAYER + r"dw\.1\.(.+)", r"stages.\1.1.norm.\2"),
    (_LAYER + r"mamba\.direction_Bs", r"stages.\1.mixer.direction_B"),
    (_LAYER + r"mamba\.conv2d\.(.+)", r"stages.\1.mixer.conv.\2"),
    (_LAYER + r"mamba\.(in_proj|out_proj)\.(.+)", r"stages.\1.mixer.\2.\3"),
    *((_LAYER + rf"mamba\.{re.escape(k)}", rf"stages.\1.mixer.{v}") for k, v in _SHARED.items()),
]


def convert_plainmamba(
    state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Released names and shapes -> those of :class:`mmquad.backbones.PlainMamba` and ``head.fc``.

    Gradients convert like weights.

    Args:
        state_dict: Released names and tensors.
        grid: Rows and columns of the learned positions. Default: a square, as all published
            weights have it.

    Raises:
        UnknownNamesError: A name is not one of the release.
        CheckpointMismatchError: A shape makes no sense.
    """
    depth = layers_of(state_dict, _LAYER)
    with_conv = _conv_layers(state_dict)
    rules = [
        (r"ln1\.(.+)", rf"norm{depth - 1}.\1"),
        # 3x3 convolutions are numbered from 0 again, after the first one with its norm and ReLU
        *(
            (rf"patch_embed\.convs\.{i}\.(.+)", rf"stem.convs.{i + 3}.\1")
            for i in range(layers_of(state_dict, r"patch_embed\.convs\.(\d+)"))
        ),
        *_RULES,
    ]
    converted = {}
    for new_name, _, value in renamed(state_dict, rules, "PlainMamba"):
        if ".ssm." in new_name:
            value = value[None]
        elif new_name == "positions.table":
            value = value.unflatten(1, grid_of("pos_embed", value.shape[1], grid))
        stage = re.match(r"stages\.(\d+)\.(norm1|mixer)\.", new_name)
        if stage and int(stage[1]) in with_conv:
            new_name = new_name.replace(f"stages.{stage[1]}.", f"stages.{stage[1]}.0.", 1)
        converted[new_name] = value
    return converted


def _conv_layers(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    return tuple(sorted({int(n.split(".")[1]) for n in weights if re.match(_LAYER + "dw", n)}))


def plainmamba_arch(
    state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Fields of ``PlainMambaArch``, read from the shapes of released weights.

    Args:
        state_dict: Released names and tensors.
        grid: See :func:`convert_plainmamba`.

    Raises:
        CheckpointMismatchError: An entry that tells them is missing or damaged.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return shape_of(state_dict, name, ndim, "PlainMamba")

    dim, _, side, _ = shape("patch_embed.projection.weight", 4)
    inner_dim, d_state = shape("layers.0.mamba.A_log", 2)
    return {
        "dim": dim,
        "depth": layers_of(state_dict, _LAYER),
        # of conv, norm and ReLU, the last one has no entry
        "num_convs": (layers_of(state_dict, r"patch_embed\.convs\.(\d+)") + 1) // 3,
        "conv_layers": _conv_layers(state_dict),
        "patch_size": 2 * side,
        "grid": grid_of("pos_embed", shape("pos_embed", 3)[1], grid),
        "ssm_ratio": ratio_of(inner_dim, dim),
        "d_state": d_state,
        "conv_size": shape("layers.0.mamba.conv2d.weight", 4)[2],
    }
