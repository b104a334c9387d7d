"""Spatial-Mamba: sizes of the paper, outputs of the released code, and the fusion of states."""

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cotangents import random_cotangents
from torch import Tensor, nn

from mmquad.backbones import SpatialMamba
from mmquad.backbones.spatialmamba import SPATIALMAMBA_ARCHS
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.layers import StateFusion
from mmquad.releases.renames import UnknownNamesError
from mmquad.releases.spatialmamba import convert_spatialmamba, spatialmamba_arch

sys.path.append(str(Path(__file__).parent))
from released_families import Shapes, Weights, batch_norm, linear, norm, random_weights

# Of the release: classifiers with 1000 classes, and backbones with four output norms.
PARAMETERS = {
    "tiny": (26_748_862, 26_236_758),
    "small": (43_074_280, 42_562_176),
    "base": (95_745_592, 94_977_936),
}
ENTRIES = {"tiny": 553, "small": 931, "base": 931}
SMALL = {"dim": 8, "depths": (1, 2, 1, 1)}
KERNELS = {"kernel_3": 1, "kernel_3_1": 3, "kernel_3_2": 5}


def released_shapes(arch: dict, outputs: str) -> Shapes:
    """Entries of a released file: a classifier (``"head"``) or a backbone (``"outnorm"``)."""

    def filters(name: str, out: int, into: int, side: int = 3, bias: bool = True) -> Shapes:
        weight = {f"{name}.weight": (out, into, side, side)}
        return weight | ({f"{name}.bias": (out,)} if bias else {})

    dim, depths = arch["dim"], arch["depths"]
    stem = {"conv1": (dim // 2, 3, 3), "conv2.0": (dim // 2, dim // 2, 3)}
    stem |= {"conv2.1": (dim // 2, dim // 2, 3), "conv3.0": (4 * dim, dim // 2, 3)}
    stem |= {"conv3.1": (dim, 4 * dim, 1)}
    shapes: Shapes = {}
    for part, (out, into, side) in stem.items():
        shapes |= filters(f"patch_embed.{part}.conv", out, into, side, bias=False)
        shapes |= batch_norm(f"patch_embed.{part}.norm", out)
    for i, depth in enumerate(depths):
        c = dim * 2**i
        inner, rank = 2 * c, math.ceil(c / 16)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            mixer = f"{block}.self_attention"
            shapes |= filters(f"{block}.cpe1", c, 1) | filters(f"{block}.cpe2", c, 1)
            shapes |= norm(f"{block}.ln_1", c) | norm(f"{block}.ln_2", c)
            shapes |= linear(f"{block}.mlp.fc1", 4 * c, c) | linear(f"{block}.mlp.fc2", c, 4 * c)
            shapes |= linear(f"{mixer}.in_proj", 2 * inner, c, bias=False)
            shapes |= linear(f"{mixer}.out_proj", c, inner, bias=False)
            shapes |= filters(f"{mixer}.conv2d", inner, 1) | norm(f"{mixer}.out_norm", inner)
            shapes |= {
                f"{mixer}.x_proj_weight": (rank + 2, inner),
                f"{mixer}.dt_projs_weight": (inner, rank),
                f"{mixer}.dt_projs_bias": (inner,),
                f"{mixer}.A_logs": (inner, 1),
                f"{mixer}.Ds": (inner,),
                f"{mixer}.state_fusion.alpha": (3,),
            }
            shapes |= {f"{mixer}.state_fusion.{kernel}": (inner, 1, 3, 3) for kernel in KERNELS}
        if i < len(depths) - 1:
            down = f"layers.{i}.downsample.conv"
            shapes |= filters(f"{down}.0.conv", 8 * c, c, 1) | filters(f"{down}.1.conv", 8 * c, 1)
            shapes |= filters(f"{down}.2.conv", 2 * c, 8 * c, 1)
            shapes |= batch_norm(f"{down}.2.norm", 2 * c)
    last = dim * 2 ** (len(depths) - 1)
    if outputs == "head":
        return shapes | norm("norm", last) | linear("head", 1000, last)
    for i in range(len(depths)):
        shapes |= norm(f"outnorm{i}", dim * 2**i)
    return shapes


def fuse(h: Tensor, kernels: dict[int, Tensor], alpha: Tensor) -> Tensor:
    """Tap by tap, indices clamped to the map: ``[B, D, H, W]``, kernels ``[D, 1, 3, 3]``."""
    rows, columns = (torch.arange(size) for size in h.shape[2:])
    fused = torch.zeros_like(h)
    for factor, (dilation, kernel) in zip(alpha, kernels.items(), strict=True):
        for p in (-1, 0, 1):
            for q in (-1, 0, 1):
                i = (rows + dilation * p).clamp(0, len(rows) - 1)
                j = (columns + dilation * q).clamp(0, len(columns) - 1)
                fused = fused + factor * kernel[:, 0, p + 1, q + 1, None, None] * h[:, :, i][..., j]
    return fused


def released_mixer(w: Weights, name: str, n: Tensor) -> Tensor:
    """``[B, H, W, C]``, token by token."""
    batch, height, width, _ = n.shape
    v, z = (n @ w[f"{name}.in_proj.weight"].T).chunk(2, dim=-1)
    inner = v.shape[-1]
    s = F.conv2d(
        v.permute(0, 3, 1, 2),
        w[f"{name}.conv2d.weight"],
        w[f"{name}.conv2d.bias"],
        padding=1,
        groups=inner,
    )
    s = F.silu(s).flatten(2)  # [B, E, L]
    rank = w[f"{name}.dt_projs_weight"].shape[1]
    r, b, c = (w[f"{name}.x_proj_weight"] @ s).split([rank, 1, 1], dim=1)
    step = F.softplus(w[f"{name}.dt_projs_weight"] @ r + w[f"{name}.dt_projs_bias"][:, None])
    A, h, states = -w[f"{name}.A_logs"][:, 0].exp(), s.new_zeros(batch, inner), []
    for t in range(s.shape[2]):
        h = (step[:, :, t] * A).exp() * h + step[:, :, t] * b[:, :, t] * s[:, :, t]
        states.append(h)
    kernels = {d: w[f"{name}.state_fusion.{k}"] for k, d in KERNELS.items()}
    grid = torch.stack(states, dim=2).unflatten(2, (height, width))
    fused = fuse(grid, kernels, w[f"{name}.state_fusion.alpha"]).flatten(2)
    y = (fused * c + w[f"{name}.Ds"][:, None] * s).transpose(1, 2).unflatten(1, (height, width))
    y = F.layer_norm(y, (inner,), w[f"{name}.out_norm.weight"], w[f"{name}.out_norm.bias"])
    return (y * F.silu(z)) @ w[f"{name}.out_proj.weight"].T


def released_forward(w: Weights, depths: tuple[int, ...], image: Tensor) -> list[Tensor]:
    """The maps after ``outnorm``, ``[B, C, H, W]``."""

    def conv(name: str, x: Tensor, **options) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **options)

    def bn(name: str, x: Tensor) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(w[f"{name}.{k}"] for k in keys))

    def stem(part: str, x: Tensor, **options) -> Tensor:
        return bn(f"patch_embed.{part}.norm", conv(f"patch_embed.{part}.conv", x, **options))

    def position(name: str, x: Tensor) -> Tensor:
        return x + conv(name, x.permute(0, 3, 1, 2), padding=1, groups=x.shape[3]).permute(
            0, 2, 3, 1
        )

    def ln(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    a = F.relu(stem("conv1", image, stride=2, padding=1))
    b = stem("conv2.1", F.relu(stem("conv2.0", a, padding=1)), padding=1) + a
    x = stem("conv3.1", F.relu(stem("conv3.0", b, stride=2, padding=1)))
    maps = []
    for i, depth in enumerate(depths):
        x = x.permute(0, 2, 3, 1)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            x = position(f"{block}.cpe1", x)
            x = x + released_mixer(w, f"{block}.self_attention", ln(f"{block}.ln_1", x))
            x = position(f"{block}.cpe2", x)
            fc1, fc2 = (
                (w[f"{block}.mlp.{k}.weight"], w[f"{block}.mlp.{k}.bias"]) for k in ("fc1", "fc2")
            )
            x = x + F.linear(F.gelu(F.linear(ln(f"{block}.ln_2", x), *fc1)), *fc2)
        maps.append(ln(f"outnorm{i}", x).permute(0, 3, 1, 2))
        x = x.permute(0, 3, 1, 2)
        if i < len(depths) - 1:
            down = f"layers.{i}.downsample.conv"
            x = F.relu(conv(f"{down}.0.conv", x))
            x = F.relu(conv(f"{down}.1.conv", x, stride=2, padding=1, groups=x.shape[1]))
            x = bn(f"{down}.2.norm", conv(f"{down}.2.conv", x))
    return maps


def test_every_architecture_is_counted():
    assert set(PARAMETERS) == set(SPATIALMAMBA_ARCHS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_names_are_those_of_the_release(name: str):
    arch = SPATIALMAMBA_ARCHS[name]
    with torch.device("meta"):
        classifier, backbone = SpatialMamba(name, out_indices=(3,)), SpatialMamba(name)
        head = nn.Linear(classifier.out_channels[-1], 1000)
        counts = [sum(p.numel() for p in m.parameters()) for m in (classifier, head, backbone)]
        for model, outputs in ((classifier, "head"), (backbone, "outnorm")):
            shapes = released_shapes(arch._asdict(), outputs)
            released = {k: torch.empty(s) for k, s in shapes.items()}
            assert spatialmamba_arch(released) == arch._asdict()
            converted = convert_spatialmamba(released)
            mine = {k: v.shape for k, v in model.state_dict().items()}
            counters = [k for k in mine if k.endswith("num_batches_tracked")]
            if outputs == "head":
                assert len(shapes) + len(counters) == ENTRIES[name]
            mine = {k: s for k, s in mine.items() if k not in counters}
            assert {k: v.shape for k, v in converted.items() if not k.startswith("head")} == mine
    assert (counts[0] + counts[1], counts[2]) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(64, 48), (37, 45), (1, 1)])
def test_outputs_and_gradients_are_those_of_the_release(size: tuple[int, int]):
    torch.manual_seed(0)
    weights = random_weights(released_shapes(SMALL, "outnorm"))
    leaves = {k: v.requires_grad_("running" not in k) for k, v in weights.items()}
    model = SpatialMamba(SMALL).double().eval()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict(
        convert_spatialmamba({k: v.detach() for k, v in weights.items()}) | counters
    )
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    mine, theirs = model(image), released_forward(leaves, SMALL["depths"], image)
    for x, y in zip(mine, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    cotangents = random_cotangents(theirs)
    torch.autograd.backward(theirs, cotangents)
    torch.autograd.backward(mine, cotangents)
    expected = convert_spatialmamba({k: v.grad for k, v in leaves.items() if v.grad is not None})
    found = {name: p.grad for name, p in model.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-9 * (1 + scale))


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (7, 7), (13, 4)])
def test_the_fusion_tap_by_tap(size: tuple[int, int]):
    """Also on maps smaller than its reach, where most taps are of the edge."""
    torch.manual_seed(0)
    fusion = StateFusion(3).double()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_()
    h = torch.randn(2, 3, *size, dtype=torch.float64)
    kernels = {d: fusion.weight[m][:, None] for m, d in enumerate((1, 3, 5))}
    mine = fusion(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(mine, fuse(h, kernels, fusion.alpha))


def test_the_fusion_follows_its_weights_in_evaluation():
    """The release merges the kernels once, at its first evaluation, and never again."""
    fusion = StateFusion(2).eval()
    h = torch.randn(1, 6, 5, 2)
    before = fusion(h)
    with torch.no_grad():
        fusion.weight[2].mul_(2)
    assert not torch.allclose(fusion(h), before)
    torch.testing.assert_close(fusion.train()(h), fusion.eval()(h))


def test_states_stay_wide_under_autocast():
    fusion = StateFusion(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert fusion(torch.full((1, 3, 3, 2), 1e39 / 27 / 100)).dtype == torch.float32


def test_the_converter_refuses_what_it_does_not_know():
    weights = random_weights(released_shapes(SMALL, "head"))
    mixer = "layers.0.blocks.0.self_attention"
    with pytest.raises(UnknownNamesError, match="kernel_11"):
        convert_spatialmamba(weights | {f"{mixer}.state_fusion.kernel_11": torch.zeros(1)})
    lacking = {k: v for k, v in weights.items() if k != f"{mixer}.state_fusion.kernel_3_1"}
    with pytest.raises(CheckpointMismatchError, match="expected kernel_3, kernel_3_1, kernel_3_2"):
        convert_spatialmamba(lacking)
    fused = convert_spatialmamba(weights)["stages.0.0.mixer.fusion.weight"]
    for m, kernel in enumerate(KERNELS):
        assert torch.equal(fused[m], weights[f"{mixer}.state_fusion.{kernel}"][:, 0])
