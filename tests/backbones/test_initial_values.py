"""Initial values follow the distributions that the papers and releases state, family by family.

Nothing of this shows in a forward pass, and a training from such values ends elsewhere: so every
parameter has to match one row, and the values of a row, put through the cumulative distribution
they should have, are compared with uniform ones (Kolmogorov and Smirnov's statistic).
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVim,
    LocalVMamba,
    MambaVision,
    PlainMamba,
    QuadMamba,
    SpatialMamba,
    Vim,
    VisionBackbone,
    VMamba,
)

# Exceeded by chance once in 370,000 cases: 2 exp(-2 x^2).
LIMIT = 2.6

Cdf = Callable[[str, Tensor], Tensor]
LAYERS = 9  # of the isotropic models; its square root is not 2, which other factors might be


def standard_normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def normal(std: float) -> Cdf:
    return lambda _, value: standard_normal_cdf(value / std)


def uniform(bound: float) -> Cdf:
    return lambda _, value: (value + bound) / (2 * bound)


def of_last_axis(_: str, value: Tensor, scale: float = 1.0) -> Tensor:
    """``nn.Linear``'s: uniform within the inverse root of the number of inputs."""
    return uniform(scale * value.shape[-1] ** -0.5)("", value)


def of_filter(_: str, weight: Tensor) -> Tensor:
    """``nn.Conv2d``'s: uniform within the inverse root of the size of a filter."""
    return uniform(weight[0].numel() ** -0.5)("", weight)


def of_fan_out(_: str, weight: Tensor) -> Tensor:
    """Variance 2 over what leaves a filter (torch's ``kaiming_normal_``, depthwise: its taps)."""
    depthwise = weight.shape[1] == 1
    fan_out = weight[0, 0].numel() * (1 if depthwise else weight.shape[0])
    return normal((2 / fan_out) ** 0.5)("", weight)


def lecun_normal(_: str, weight: Tensor) -> Tensor:
    """Variance 1 / fan-in after the cut at two standard deviations (timm's ``lecun_normal_``)."""
    x = weight * weight[0].numel() ** 0.5 * 0.87962566
    low, high = (standard_normal_cdf(torch.tensor(limit)) for limit in (-2.0, 2.0))
    return (standard_normal_cdf(x) - low) / (high - low)


def log_uniform_step(_: str, bias: Tensor) -> Tensor:
    """Step sizes ``softplus(bias)`` log-uniform from 0.001 to 0.1 (Mamba, section 3.6)."""
    low, high = math.log(1e-3), math.log(0.1)
    return (F.softplus(bias).log() - low) / (high - low)


def all_equal(number: float) -> Cdf:
    return lambda _, value: _expect(value, torch.full_like(value, number))


def s4d_real(_: str, a_log: Tensor) -> Tensor:
    """A = -1, -2, ..., -N in every channel (S4D-Real)."""
    states = torch.arange(1.0, a_log.shape[-1] + 1)
    return _expect(a_log.exp(), states.expand_as(a_log))


def _expect(found: Tensor, expected: Tensor) -> Tensor:
    torch.testing.assert_close(found, expected)
    return torch.empty(0)


STATE_SPACE: dict[str, Cdf] = {
    r"ssm\.x_proj": of_last_axis,
    r"ssm\.dt_proj": of_last_axis,
    r"ssm\.dt_bias": log_uniform_step,
    r"ssm\.A_log": s4d_real,
    r"ssm\.D_skip": all_equal(1),
    r"(^|\.)norm\d?\.weight": all_equal(1),
    r"(^|\.)norm\d?\.bias": all_equal(0),
}
# VMamba: linear layers as in ViT, torch's convolutions.
HIERARCHICAL: dict[str, Cdf] = STATE_SPACE | {
    r"\.(in_proj|out_proj|fc1|fc2|reduction|reduce|expand)\.weight": normal(0.02),
    r"\.(fc1|fc2|reduce|expand)\.bias": all_equal(0),
    r"\.conv\d?\.weight|^stem\.conv\.weight": of_filter,
}
CHANNEL_ATTENTION: dict[str, Cdf] = {
    r"combine\.(reduce|expand)\.weight": normal(0.02),
    r"combine\.(reduce|expand)\.bias": all_equal(0),
}
# Mamba: torch's linear layers; the last one of a branch is divided by the root of their number.
SEQUENCE: dict[str, Cdf] = STATE_SPACE | {
    r"mixer\.out_proj\.weight": lambda name, w: of_last_axis(name, w, LAYERS**-0.5),
    r"mixer\.conv_weight": uniform(0.5),  # of four taps
    r"mixer\.conv_bias": uniform(0.5),
    r"positions\.table": normal(0.02),
}


class Family(NamedTuple):
    """A model, and the distributions of its parameters by a pattern of their names."""

    model: Callable[[], VisionBackbone]
    rows: dict[str, Cdf]


PYRAMID = {"dim": 32, "depths": (2, 1, 2), "ssm_ratio": 1, "d_state": 3}
LAYER = {"dim": 48, "depth": LAYERS, "grid": (9, 9), "d_state": 5}
DIRECTIONS = {"directions": ("h v w2 w7_flip",)}
FAMILIES = {
    "quadmamba": Family(
        lambda: QuadMamba(PYRAMID | {"quad_stages": (0,)}, out_indices=(0, 2)),
        HIERARCHICAL
        | {
            r"selector\.(embed\.1|head\.\d)\.weight": normal(0.02),
            r"selector\.(embed\.1|head\.\d)\.bias": all_equal(0),
            r"selector\.embed\.0\.weight": all_equal(1),
            r"selector\.embed\.0\.bias": all_equal(0),
        },
    ),
    "vmamba": Family(lambda: VMamba(PYRAMID, out_indices=(0, 2)), HIERARCHICAL),
    "vmamba-vanilla": Family(
        lambda: VMamba(
            PYRAMID | {"mlp_ratio": 0, "gate": True, "overlap": False, "conv_bias": True},
            out_indices=(1, 2),
        ),
        HIERARCHICAL,
    ),
    "localvmamba": Family(
        lambda: LocalVMamba(PYRAMID | DIRECTIONS, out_indices=(0, 2)), HIERARCHICAL
    ),
    "localvmamba-search": Family(
        lambda: LocalVMamba(
            PYRAMID | {"directions": ("h v w2 w7",), "search": True}, out_indices=(2,)
        ),
        HIERARCHICAL | {r"combine\.alpha": normal(1e-3)},
    ),
    "mambavision": Family(
        lambda: MambaVision(
            {"dim": 16, "stem_dim": 8, "depths": (1, 1, 2), "num_heads": (2,), "window": (3,)}
            | {"layer_scale": 1e-5},
            out_indices=(0, 2),
        ),
        HIERARCHICAL
        | {
            r"\.(qkv|proj)\.weight": normal(0.02),
            r"ssm\.x_proj": normal(0.02),
            r"ssm\.dt_proj": normal(0.02),
            r"mixer\.conv_weight": uniform(3**-0.5),
            r"ssm\.dt_bias": all_equal(0),  # the release's steps begin at log 2
            r"\.(qkv|proj)\.bias": all_equal(0),
            r"scale[12]\.weight": all_equal(1e-5),
        },
    ),
    "efficientvmamba": Family(
        lambda: EfficientVMamba({"dim": 32, "depths": (2, 1, 2), "d_state": 3}, out_indices=(0, 2)),
        {k: v for k, v in HIERARCHICAL.items() if "reduce" not in k}
        | {
            r"(in_proj|out_proj|reduction|attention\.reduce|attention\.expand)\.weight": normal(
                0.02
            ),
            r"attention\.(reduce|expand)\.bias": all_equal(0),
            r"conv_norm\.weight": all_equal(1),
            r"conv_norm\.bias": all_equal(0),
            r"(conv_proj|stages\.2\.\d\.(expand|reduce|squeeze|excite))\.weight": of_filter,
        },
    ),
    "groupmamba": Family(
        lambda: GroupMamba(
            {"dims": (32, 48, 64), "stem_dim": 8, "depths": (2, 1, 2), "mlp_ratios": (2, 2, 2)},
            out_indices=(0, 2),
            out_type="class_token",
        ),
        {k: v for k, v in HIERARCHICAL.items() if "conv" not in k}
        | {
            r"conv\.weight|convs\.[036]\.weight": of_fan_out,
            r"conv\.bias": all_equal(0),
            r"convs\.[147]\.weight|mixer\.scale": all_equal(1),
            r"convs\.[147]\.bias|proj\.bias": all_equal(0),
            r"(\d|class_block)\.proj\.weight": normal(0.02),
            r"branch_norm\.weight": all_equal(1),
            r"branch_norm\.bias": all_equal(0),
        },
    ),
    "spatialmamba": Family(
        lambda: SpatialMamba({"dim": 32, "depths": (2, 1, 2)}, out_indices=(0, 2)),
        {k: v for k, v in HIERARCHICAL.items() if "reduce" not in k}
        | {
            r"\.(in_proj|out_proj|fc1|fc2)\.weight": normal(0.02),
            r"\.(fc1|fc2)\.bias": all_equal(0),
            r"downsamples\.\d\.(expand|reduce)\.weight": of_filter,
            r"position\d\.weight": of_filter,
            r"fusion\.(weight|alpha)": all_equal(1),
        },
    ),
    "vim": Family(
        lambda: Vim(LAYER, out_indices=(3, LAYERS - 1)),
        SEQUENCE
        | {
            r"mixer\.in_proj\.weight": of_last_axis,
            r"stem\.conv\.weight": lecun_normal,
            r"stem\.conv\.bias": all_equal(0),
            r"class_token\.(token|position)": normal(0.02),
        },
    ),
    "localvim": Family(
        lambda: LocalVim(LAYER | DIRECTIONS | {"class_token": True}, out_indices=(3, LAYERS - 1)),
        SEQUENCE
        | CHANNEL_ATTENTION
        | {
            r"mixer\.in_proj\.weight": normal(0.02),
            r"ssm\.x_proj": normal(0.02),
            r"stem\.conv\.weight": of_filter,
            r"class_token\.token": all_equal(0),
            r"class_token\.position": normal(0.02),
        },
    ),
    "plainmamba": Family(
        lambda: PlainMamba(LAYER | {"conv_layers": (1,)}, out_indices=(3, LAYERS - 1)),
        STATE_SPACE
        | {
            r"mixer\.(in_proj|out_proj)\.weight": normal(0.02),
            r"mixer\.(in_proj|out_proj)\.bias": all_equal(0),
            r"ssm\.x_proj": normal(0.02),
            r"mixer\.direction_B": normal(0.02),
            r"\.conv\.weight|^stem\.convs\.[036]\.weight": of_filter,
            r"stem\.convs\.[147]\.weight": all_equal(1),
            r"stem\.convs\.[147]\.bias": all_equal(0),
            r"positions\.table": normal(0.02),
        },
    ),
}


def distributions(model: VisionBackbone, rows: dict[str, Cdf]) -> dict[str, Tensor]:
    """Probabilities of all values of a row under its distribution, by its pattern."""
    probabilities = defaultdict(list)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        value = parameter.detach()
        bias = re.fullmatch(
            r"(.*(conv|position|expand|reduce|conv_proj|squeeze|excite)\d?)\.bias", name
        )
        found = [pattern for pattern in rows if re.search(rf"({pattern})$", name)]
        if bias and not found:  # torch's convolutions draw both within one bound
            found = ["convolutions' biases"]
            fan_in = parameters[f"{bias[1]}.weight"][0].numel()
            probabilities[found[0]].append(uniform(fan_in**-0.5)(name, value).flatten())
        else:
            assert len(found) == 1, (name, found)
            probabilities[found[0]].append(rows[found[0]](name, value).flatten())
    return {pattern: torch.cat(values) for pattern, values in probabilities.items()}


def distance(probabilities: Tensor) -> float:
    """Kolmogorov and Smirnov's, times the root of the number of values."""
    ranks = torch.arange(len(probabilities) + 1) / len(probabilities)
    ordered = probabilities.sort().values
    furthest = torch.maximum(ranks[1:] - ordered, ordered - ranks[:-1]).max()
    return float(furthest) * len(probabilities) ** 0.5


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_begins_as_published(family: Family) -> None:
    torch.manual_seed(0)
    model = family.model()
    model.init_weights()  # as runners do
    found = distributions(model, family.rows)
    for pattern, values in found.items():
        if len(values):
            assert values.min() > -1e-6, pattern
            assert values.max() < 1 + 1e-6, pattern
            assert distance(values) < LIMIT, (pattern, distance(values), len(values))


def test_the_distance_tells_distributions_apart() -> None:
    torch.manual_seed(0)
    value = torch.empty(1000)
    assert distance(normal(0.02)("", torch.nn.init.trunc_normal_(value, std=0.02))) < LIMIT
    assert distance(normal(0.02)("", torch.nn.init.trunc_normal_(value, std=0.03))) > LIMIT
    assert distance(uniform(1)("", value.uniform_(-1, 1))) < LIMIT
    assert distance(uniform(1)("", value.uniform_(-1, 0.7))) > LIMIT
