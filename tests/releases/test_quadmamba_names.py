"""Released QuadMamba names and shapes -> this package's, on generated state dicts."""

import pytest
import torch
from torch import Tensor

from mmquad.backbones import QuadMamba
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS, QuadMambaArch
from mmquad.checkpoints import load_strict
from mmquad.releases.quadmamba import convert_quadmamba, quadmamba_arch

TINY = QuadMambaArch(8, (2, 2, 1, 1), ssm_ratio=2)


def linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, tuple]:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def conv(name: str, out: int, into: int) -> dict[str, tuple]:
    return {f"{name}.weight": (out, into, 3, 3), f"{name}.bias": (out,)}


def norm(name: str, channels: int) -> dict[str, tuple]:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def released_block(prefix: str, c: int, arch: QuadMambaArch, quad: bool) -> dict[str, tuple]:
    inner, rank, n, k = int(c * arch.ssm_ratio), -(-c // 16), arch.d_state, 2 if quad else 4
    shapes = norm(f"{prefix}.norm", c) | norm(f"{prefix}.norm2", c)
    shapes |= linear(f"{prefix}.mlp.fc1", 4 * c, c) | linear(f"{prefix}.mlp.fc2", c, 4 * c)
    op = f"{prefix}.op"
    shapes |= linear(f"{op}.in_proj", inner, c, bias=False)
    shapes |= linear(f"{op}.out_proj", c, inner, bias=False) | norm(f"{op}.out_norm", inner)
    shapes |= {
        f"{op}.conv2d.weight": (inner, 1, 3, 3),
        f"{op}.x_proj_weight": (k, rank + 2 * n, inner),
        f"{op}.dt_projs_weight": (k, inner, rank),
        f"{op}.dt_projs_bias": (k, inner),
        f"{op}.A_logs": (k * inner, n),
        f"{op}.Ds": (k * inner,),
    }
    if quad:
        predictor = f"{op}.score_predictor"
        shapes |= norm(f"{predictor}.in_conv.0", inner)
        shapes |= linear(f"{predictor}.in_conv.1", inner, inner)
        shapes |= linear(f"{predictor}.out_conv.0", inner // 2, inner)
        shapes |= linear(f"{predictor}.out_conv.2", inner // 4, inner // 2)
        shapes |= linear(f"{predictor}.out_conv.4", 2, inner // 4)
    return shapes


def released_shapes(arch: QuadMambaArch) -> dict[str, tuple]:
    """Every name of a released backbone with an output norm per stage."""
    c = arch.dim
    shapes = conv("patch_embed.0", c // 2, 3) | norm("patch_embed.2", c // 2)
    shapes |= conv("patch_embed.5", c, c // 2) | norm("patch_embed.7", c)
    for i, depth in enumerate(arch.depths):
        width = c * 2**i
        for j in range(depth):
            quad = i in arch.quad_stages
            shapes |= released_block(f"layers.{i}.blocks.{j}", width, arch, quad)
        if i < 3:
            shapes |= conv(f"layers.{i}.downsample.1", 2 * width, width)
            shapes |= norm(f"layers.{i}.downsample.3", 2 * width)
        shapes |= norm(f"outnorm{i}", width)
    return shapes


def numbered(shapes: dict[str, tuple]) -> dict[str, Tensor]:
    """A state dict in which no two entries are equal."""
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize("arch", QUADMAMBA_ARCHS)
def test_names_and_shapes_cover_every_variant(arch: str) -> None:
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in QuadMamba(arch).state_dict().items()}
        released = released_shapes(QUADMAMBA_ARCHS[arch])
        converted = convert_quadmamba({k: torch.empty(s) for k, s in released.items()})
    assert {k: tuple(v.shape) for k, v in converted.items()} == expected


def test_values_arrive_where_they_belong() -> None:
    released = numbered(released_shapes(TINY))
    converted = convert_quadmamba(released)
    assert len({float(value.flatten()[0]) for value in converted.values()}) == len(released)
    model = QuadMamba(TINY._asdict())
    load_strict(model, converted, source="released")
    pairs = {
        "patch_embed.5.weight": model.stem.conv2.weight,
        "layers.0.downsample.1.weight": model.downsamples[0].conv.weight,
        "layers.1.blocks.1.norm2.bias": model.stages[1][1].norm2.bias,
        "layers.1.blocks.1.op.x_proj_weight": model.stages[1][1].mixer.ssm.x_proj,
        "layers.0.blocks.1.op.out_norm.weight": model.stages[0][1].mixer.norm.weight,
        "layers.0.blocks.0.op.score_predictor.out_conv.2.bias": (
            model.stages[0][0].mixer.selector.head[2].bias
        ),
        "layers.3.blocks.0.mlp.fc2.weight": model.stages[3][0].mlp.fc2.weight,
        "outnorm2.weight": model.norm2.weight,
    }
    for name, parameter in pairs.items():
        assert torch.equal(parameter, released[name]), name


def test_directions_are_split_row_by_row() -> None:
    released = numbered(released_shapes(TINY))
    name = "layers.2.blocks.0.op"
    inner = 64
    released[f"{name}.A_logs"] = torch.arange(4.0 * inner)[:, None]
    released[f"{name}.Ds"] = torch.arange(4.0 * inner)
    converted = convert_quadmamba(released)
    rows = torch.arange(4.0 * inner).view(4, inner)
    assert torch.equal(converted["stages.2.0.mixer.ssm.A_log"], rows[..., None])
    assert torch.equal(converted["stages.2.0.mixer.ssm.D_skip"], rows)


@pytest.mark.parametrize("stages", [4, 3])
def test_classifier(stages: int) -> None:
    """Its norm is that of the last stage."""
    others = ("outnorm", *(f"layers.{i}." for i in range(stages, 4)))
    shapes = {k: s for k, s in released_shapes(TINY).items() if not k.startswith(others)}
    width = 8 * 2 ** (stages - 1)
    shapes |= norm("classifier.norm", width) | linear("classifier.head", 10, width)
    converted = convert_quadmamba(numbered(shapes))
    last = f"norm{stages - 1}"
    assert {name for name in converted if name.startswith(("norm", "head"))} == {
        *(f"{last}.weight", f"{last}.bias", "head.fc.weight", "head.fc.bias")
    }


def test_biases_of_the_convolutions_are_kept() -> None:
    arch = TINY._replace(conv_bias=True)
    model = QuadMamba(arch._asdict())
    biases = {k for k in model.state_dict() if k.endswith("mixer.conv.bias")}
    assert len(biases) == sum(TINY.depths)
    shapes = released_shapes(TINY)
    for name in [k for k in shapes if k.endswith("op.conv2d.weight")]:
        shapes[name.replace("weight", "bias")] = shapes[name][:1]
    released = numbered(shapes)
    assert quadmamba_arch(released) == arch._asdict()
    load_strict(model, convert_quadmamba(released), source="released")


@pytest.mark.parametrize("name", ["layers.0.block.0.norm.weight", "patch_embed.1.weight", "norm.x"])
def test_foreign_names_are_refused(name: str) -> None:
    with pytest.raises(KeyError, match="is not a name of the released QuadMamba weights"):
        convert_quadmamba({name: torch.zeros(1)})


def test_the_input_is_not_modified() -> None:
    released = numbered(released_shapes(TINY))
    before = {name: value.clone() for name, value in released.items()}
    convert_quadmamba(released)
    assert released.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in released.items())
