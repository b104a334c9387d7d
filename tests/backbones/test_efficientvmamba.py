"""EfficientVMamba: the paper's sizes and the released code's outputs."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cotangents import random_cotangents
from torch import Tensor, nn

from mmquad.backbones import EfficientVMamba
from mmquad.backbones.efficientvmamba import EFFICIENTVMAMBA_ARCHS
from mmquad.releases.efficientvmamba import convert_efficientvmamba, efficientvmamba_arch
from mmquad.releases.renames import UnknownNamesError

sys.path.append(str(Path(__file__).parent))
from released_families import Shapes, Weights, batch_norm, linear, norm, random_weights

# Of the release, classifiers with 1000 classes; and entries of their files.
PARAMETERS = {"tiny": 6_493_660, "small": 11_273_688, "base": 33_717_136}
ENTRIES = {"tiny": 261, "small": 261, "base": 371}
SMALL = {"dim": 8, "depths": (1, 2, 2, 1), "scan_stages": 2, "d_state": 3, "ssm_ratio": 2.0}


def released_shapes(arch: dict, outputs: str) -> Shapes:
    """Entries of a released file: a classifier (``"head"``) or a backbone (``"outnorm"``)."""

    def filters(name: str, out: int, into: int, side: int, bias: bool = True) -> Shapes:
        weight = {f"{name}.weight": (out, into, side, side)}
        return weight | ({f"{name}.bias": (out,)} if bias else {})

    dim, depths, states = arch["dim"], arch["depths"], arch["d_state"]
    shapes = filters("patch_embed.0", dim, 3, 4) | norm("patch_embed.2", dim)
    for i, depth in enumerate(depths):
        c = dim * 2**i
        inner, rank, wide = 2 * c, math.ceil(c / 16), 4 * c
        for j in range(depth):
            if i < 2:
                block, op = f"layers.{i}.blocks.{j}", f"layers.{i}.blocks.{j}.op"
                shapes |= norm(f"{block}.norm", c) | norm(f"{op}.out_norm", inner)
                shapes |= {f"{op}.x_proj_weight": (4, rank + 2 * states, inner)}
                shapes |= {f"{op}.dt_projs_weight": (4, inner, rank)}
                shapes |= {f"{op}.dt_projs_bias": (4, inner)}
                shapes |= {f"{op}.A_logs": (4 * inner, states), f"{op}.Ds": (4 * inner,)}
                shapes |= linear(f"{op}.in_proj", 2 * inner, c, bias=False)
                shapes |= linear(f"{op}.out_proj", c, inner, bias=False)
                shapes |= filters(f"{op}.conv2d", inner, 1, 3)
                branch = f"{block}.conv_branch"
                shapes |= filters(f"{branch}.0", c, 1, 3) | batch_norm(f"{branch}.1", c)
                shapes |= filters(f"{branch}.3", c, c, 1) | norm(f"{block}.se.norm", c)
                shapes |= linear(f"{block}.se.global_reduce", c // 8, c)
                shapes |= linear(f"{block}.se.channel_select", c, c // 8)
            else:
                block = f"layers.{i}.{j + 1}"
                shapes |= filters(f"{block}.conv_pw.0", wide, c, 1, bias=False)
                shapes |= batch_norm(f"{block}.conv_pw.1", wide)
                shapes |= filters(f"{block}.conv_dw.0", wide, 1, 3, bias=False)
                shapes |= batch_norm(f"{block}.conv_dw.1", wide)
                shapes |= filters(f"{block}.se.conv_reduce", wide // 8, wide, 1)
                shapes |= filters(f"{block}.se.conv_expand", wide, wide // 8, 1)
                shapes |= filters(f"{block}.conv_pw2.0", c, wide, 1, bias=False)
                shapes |= batch_norm(f"{block}.conv_pw2.1", c)
        if i < len(depths) - 1:
            merging = f"layers.{i}.downsample" if i < 2 else f"layers.{i}.{depth + 2}"
            shapes |= linear(f"{merging}.reduction", 2 * c, 4 * c, bias=False)
            shapes |= norm(f"{merging}.norm", 4 * c)
    last = dim * 2 ** (len(depths) - 1)
    if outputs == "head":
        return shapes | norm("classifier.norm", last) | linear("classifier.head", 1000, last)
    for i in range(len(depths)):
        shapes |= norm(f"outnorm{i}", dim * 2**i)
    return shapes


def released_scan(w: Weights, op: str, v: Tensor) -> Tensor:
    """Token by token, by the tables' rule: ``[B, H, W, E]``, zeros and decay at what is padded."""
    batch, height, width, inner = v.shape
    states, rank = w[f"{op}.A_logs"].shape[1], w[f"{op}.dt_projs_weight"].shape[2]
    y = torch.zeros_like(v)
    for k in range(4):
        rows, columns = range(k % 2, height + height % 2, 2), range(k // 2, width + width % 2, 2)
        places = [(i, j) for i in rows for j in columns]
        if k % 2:
            places = [(i, j) for j in columns for i in rows]
        A = -w[f"{op}.A_logs"].unflatten(0, (4, inner))[k].exp()
        skip = w[f"{op}.Ds"].view(4, inner)[k]
        h = v.new_zeros(batch, inner, states)
        written = []
        for i, j in places:
            inside = i < height and j < width
            u = v[:, i, j] if inside else v.new_zeros(batch, inner)
            r, B, C = (u @ w[f"{op}.x_proj_weight"][k].T).split([rank, states, states], dim=-1)
            bias = w[f"{op}.dt_projs_bias"][k]
            step = F.softplus(r @ w[f"{op}.dt_projs_weight"][k].T + bias)
            h = (step[..., None] * A).exp() * h + (step * u)[..., None] * B[:, None]
            if inside:
                written.append((i, j, (h * C[:, None]).sum(-1) + skip * u))
        for i, j, value in written:
            where = torch.zeros(height, width, 1)
            where[i, j] = 1
            y = y + where * value[:, None, None]
    return y


def released_forward(w: Weights, depths: tuple[int, ...], image: Tensor) -> list[Tensor]:
    """The maps after ``outnorm``, ``[B, C, H, W]``."""

    def conv(name: str, x: Tensor, **options) -> Tensor:  # of [B, H, W, C]
        x = F.conv2d(x.permute(0, 3, 1, 2), w[f"{name}.weight"], w.get(f"{name}.bias"), **options)
        return x.permute(0, 2, 3, 1)

    def depthwise(name: str, x: Tensor) -> Tensor:
        return conv(name, x, padding=1, groups=x.shape[3])

    def bn(name: str, x: Tensor) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x.permute(0, 3, 1, 2), *(w[f"{name}.{k}"] for k in keys))
        return x.permute(0, 2, 3, 1)

    def ln(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def dense(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def weigh(name: str, t: Tensor) -> Tensor:
        context = ln(f"{name}.norm", t).mean((1, 2), keepdim=True)
        gate = dense(f"{name}.channel_select", F.gelu(dense(f"{name}.global_reduce", context)))
        return t * gate.sigmoid()

    x = ln("patch_embed.2", conv("patch_embed.0", image.permute(0, 2, 3, 1), stride=4))
    maps = []
    for i, depth in enumerate(depths):
        for j in range(depth):
            if i < 2:
                block, op = f"layers.{i}.blocks.{j}", f"layers.{i}.blocks.{j}.op"
                n = ln(f"{block}.norm", x)
                v, z = dense(f"{op}.in_proj", n).chunk(2, dim=-1)
                y = released_scan(w, op, F.silu(depthwise(f"{op}.conv2d", v)))
                mixed = dense(f"{op}.out_proj", ln(f"{op}.out_norm", y) * F.silu(z))
                branch = f"{block}.conv_branch"
                other = F.gelu(bn(f"{branch}.1", depthwise(f"{branch}.0", n)))
                other = conv(f"{branch}.3", other)
                x = x + weigh(f"{block}.se", mixed) + weigh(f"{block}.se", other)
            else:
                block = f"layers.{i}.{j + 1}"
                u = F.relu(bn(f"{block}.conv_pw.1", conv(f"{block}.conv_pw.0", x)))
                u = F.relu(bn(f"{block}.conv_dw.1", depthwise(f"{block}.conv_dw.0", u)))
                context = F.relu(conv(f"{block}.se.conv_reduce", u.mean((1, 2), keepdim=True)))
                u = u * conv(f"{block}.se.conv_expand", context).sigmoid()
                x = x + bn(f"{block}.conv_pw2.1", conv(f"{block}.conv_pw2.0", u))
        maps.append(ln(f"outnorm{i}", x).permute(0, 3, 1, 2))
        if i < len(depths) - 1:
            name = f"layers.{i}.downsample" if i < 2 else f"layers.{i}.{depth + 2}"
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
            x = dense(f"{name}.reduction", ln(f"{name}.norm", torch.cat(parts, dim=-1)))
    return maps


def test_every_architecture_is_counted():
    assert set(PARAMETERS) == set(EFFICIENTVMAMBA_ARCHS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_names_are_those_of_the_release(name: str):
    arch = EFFICIENTVMAMBA_ARCHS[name]
    with torch.device("meta"):
        classifier, backbone = EfficientVMamba(name, out_indices=(3,)), EfficientVMamba(name)
        head = nn.Linear(classifier.out_channels[-1], 1000)
        for model, outputs in ((classifier, "head"), (backbone, "outnorm")):
            shapes = released_shapes(arch._asdict(), outputs)
            released = {k: torch.empty(s) for k, s in shapes.items()}
            assert efficientvmamba_arch(released) == arch._asdict()
            converted = convert_efficientvmamba(released)
            mine = {k: v.shape for k, v in model.state_dict().items()}
            counters = [k for k in mine if k.endswith("num_batches_tracked")]
            if outputs == "head":
                assert len(shapes) + len(counters) == ENTRIES[name]
            mine = {k: s for k, s in mine.items() if k not in counters}
            assert {k: v.shape for k, v in converted.items() if not k.startswith("head")} == mine
    count = sum(p.numel() for m in (classifier, head) for p in m.parameters())
    assert count == PARAMETERS[name]


@pytest.mark.parametrize("size", [(36, 48), (29, 45), (4, 4)])
def test_outputs_and_gradients_are_those_of_the_release(size: tuple[int, int]):
    torch.manual_seed(0)
    weights = random_weights(released_shapes(SMALL, "outnorm"))
    leaves = {k: v.requires_grad_("running" not in k) for k, v in weights.items()}
    model = EfficientVMamba(SMALL).double().eval()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict(
        convert_efficientvmamba({k: v.detach() for k, v in weights.items()}) | counters
    )
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    mine, theirs = model(image), released_forward(leaves, SMALL["depths"], image)
    for x, y in zip(mine, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    cotangents = random_cotangents(theirs)
    torch.autograd.backward(theirs, cotangents)
    torch.autograd.backward(mine, cotangents)
    expected = convert_efficientvmamba(
        {k: v if v.grad is None else v.grad for k, v in leaves.items() if "running" not in k}
    )
    found = {name: p.grad for name, p in model.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        scale = float(expected[name].detach().abs().max())
        torch.testing.assert_close(
            gradient, expected[name].detach(), rtol=0, atol=1e-9 * (1 + scale)
        )


def test_the_converter_refuses_what_it_does_not_know():
    weights = random_weights(released_shapes(SMALL, "head"))
    with pytest.raises(UnknownNamesError, match=r"layers\.2\.1\.conv_pw3"):
        convert_efficientvmamba(weights | {"layers.2.1.conv_pw3.0.weight": torch.zeros(1)})
    assert "stages.2.0.expand.weight" in convert_efficientvmamba(weights)
    assert "downsamples.2.reduction.weight" in convert_efficientvmamba(weights)


def test_older_files_call_parts_by_other_names():
    """As the release's loader takes them: the current names are replaced there."""
    weights = random_weights(released_shapes(SMALL, "head"))
    older = {
        re.sub(r"(blocks\.\d+)\.norm\.", r"\1.ln_1.", k)
        .replace(".op.", ".self_attention.")
        .replace("patch_embed.0.", "patch_embed.proj.")
        .replace("patch_embed.2.", "patch_embed.norm."): v
        for k, v in weights.items()
    }
    assert sum(k not in weights for k in older) > 4
    assert efficientvmamba_arch(older) == efficientvmamba_arch(weights)
    mine, theirs = convert_efficientvmamba(older), convert_efficientvmamba(weights)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
