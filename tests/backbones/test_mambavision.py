"""MambaVision: the paper's sizes, the released code's outputs, windows, the classifier's norm."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cotangents import random_cotangents
from torch import Tensor, nn

from mmquad.backbones import MambaVision
from mmquad.backbones.mambavision import MAMBAVISION_ARCHS
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.layers import HalfScanMixer, SelfAttention
from mmquad.releases.mambavision import convert_mambavision, mambavision_arch
from mmquad.releases.renames import UnknownNamesError

sys.path.append(str(Path(__file__).parent))
from released_families import Shapes, Weights, batch_norm, linear, norm, random_weights

# Of the release: whole classifiers with 1000 classes, and backbones with four output norms.
PARAMETERS = {
    "tiny": (31_794_248, 31_154_368),
    "tiny2": (35_104_008, 34_464_128),
    "small": (50_140_584, 49_372_928),
    "base": (97_685_288, 96_662_080),
    "large": (227_961_048, 226_394_792),
    "large2": (241_554_824, 239_988_568),
    "large3": (739_570_472, 737_525_056),
}
SMALL = {"dim": 8, "stem_dim": 6, "depths": (1, 2, 3, 2), "num_heads": (2, 4), "d_state": 3}
SMALL |= {"window": (4, 3), "layer_scale": 0.5, "mlp_ratio": 2}


def released_shapes(arch: dict, outputs: str) -> Shapes:
    """Entries of a released file: a classifier (``"head"``) or a backbone (``"outnorm"``)."""

    def filters(name: str, out: int, into: int) -> Shapes:
        return {f"{name}.weight": (out, into, 3, 3)}

    dim, stem = arch["dim"], arch["stem_dim"]
    shapes = filters("patch_embed.conv_down.0", stem, 3) | batch_norm(
        "patch_embed.conv_down.1", stem
    )
    shapes |= filters("patch_embed.conv_down.3", dim, stem) | batch_norm(
        "patch_embed.conv_down.4", dim
    )
    for i, depth in enumerate(arch["depths"]):
        c, level = dim * 2**i, f"levels.{i}"
        for j in range(depth):
            block, mixer = f"{level}.blocks.{j}", f"{level}.blocks.{j}.mixer"
            if i < 2:
                for k in (1, 2):
                    shapes |= filters(f"{block}.conv{k}", c, c) | {f"{block}.conv{k}.bias": (c,)}
                    shapes |= batch_norm(f"{block}.norm{k}", c)
                continue
            hidden = int(c * arch["mlp_ratio"])
            shapes |= norm(f"{block}.norm1", c) | norm(f"{block}.norm2", c)
            shapes |= linear(f"{block}.mlp.fc1", hidden, c) | linear(f"{block}.mlp.fc2", c, hidden)
            if arch["layer_scale"] is not None:
                shapes |= {f"{block}.gamma_1": (c,), f"{block}.gamma_2": (c,)}
            if j >= math.ceil(depth / 2):
                shapes |= linear(f"{mixer}.qkv", 3 * c, c) | linear(f"{mixer}.proj", c, c)
                continue
            inner, rank, states = c // 2, math.ceil(c / 16), arch["d_state"]
            shapes |= linear(f"{mixer}.in_proj", c, c, bias=False)
            shapes |= linear(f"{mixer}.out_proj", c, c, bias=False)
            shapes |= {f"{mixer}.conv1d_{k}.weight": (inner, 1, 3) for k in "xz"}
            shapes |= linear(f"{mixer}.x_proj", rank + 2 * states, inner, bias=False)
            shapes |= linear(f"{mixer}.dt_proj", inner, rank)
            shapes |= {f"{mixer}.A_log": (inner, states), f"{mixer}.D": (inner,)}
        if i < len(arch["depths"]) - 1:
            shapes |= filters(f"{level}.downsample.reduction.0", 2 * c, c)
    last = dim * 2 ** (len(arch["depths"]) - 1)
    if outputs == "head":
        return shapes | batch_norm("norm", last) | linear("head", 1000, last)
    for i in range(len(arch["depths"])):
        shapes |= norm(f"outnorm{i}", dim * 2**i)
    return shapes


def released_mixer(w: Weights, name: str, x: Tensor) -> Tensor:
    """``[B, L, C]``, token by token."""
    inner, states = w[f"{name}.A_log"].shape
    both = (x @ w[f"{name}.in_proj.weight"].T).transpose(1, 2).split(inner, dim=1)
    a, b = (
        F.silu(F.conv1d(half, w[f"{name}.conv1d_{k}.weight"], padding=1, groups=inner))
        for k, half in zip("xz", both, strict=True)
    )
    rank = w[f"{name}.dt_proj.weight"].shape[1]
    parts = a.transpose(1, 2) @ w[f"{name}.x_proj.weight"].T
    r, B, C = parts.split([rank, states, states], dim=-1)
    bias = w[f"{name}.dt_proj.bias"]
    step = F.softplus(r @ w[f"{name}.dt_proj.weight"].T + bias + bias)
    A, h, ys = -w[f"{name}.A_log"].exp(), x.new_zeros(len(x), inner, states), []
    for t in range(x.shape[1]):
        u = a[:, :, t]
        h = (step[:, t, :, None] * A).exp() * h + (step[:, t] * u)[..., None] * B[:, t, None]
        ys.append((h * C[:, t, None]).sum(-1) + w[f"{name}.D"] * u)
    joined = torch.cat([torch.stack(ys, 1), b.transpose(1, 2)], dim=-1)
    return joined @ w[f"{name}.out_proj.weight"].T


def released_attention(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    def per_head(part: Tensor) -> Tensor:
        return torch.stack(part.chunk(heads, dim=-1), 1)  # [B, heads, L, C / heads]

    qkv = F.linear(x, w[f"{name}.qkv.weight"], w[f"{name}.qkv.bias"])
    q, k, v = map(per_head, qkv.chunk(3, dim=-1))
    attended = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v
    joined = torch.cat(attended.unbind(1), dim=-1)
    return F.linear(joined, w[f"{name}.proj.weight"], w[f"{name}.proj.bias"])


def released_forward(w: Weights, arch: dict, image: Tensor) -> list[Tensor]:
    """The four maps before downsampling and norms, ``[B, C, H, W]``."""

    def bn(name: str, x: Tensor, eps: float) -> Tensor:
        mean, var, weight, bias = (
            w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    def ln(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding=1)

    x = image
    for i in (0, 3):
        name = "patch_embed.conv_down."
        x = F.relu(bn(f"{name}{i + 1}", conv(f"{name}{i}", x, 2), 1e-4))
    maps = []
    for i, depth in enumerate(arch["depths"]):
        if i < 2:
            for j in range(depth):
                block = f"levels.{i}.blocks.{j}"
                y = F.gelu(
                    bn(f"{block}.norm1", conv(f"{block}.conv1", x), 1e-5), approximate="tanh"
                )
                x = x + bn(f"{block}.norm2", conv(f"{block}.conv2", y), 1e-5)
        else:
            side, heads = arch["window"][i - 2], arch["num_heads"][i - 2]
            height, width = x.shape[2:]
            x = F.pad(x, (0, -width % side, 0, -height % side))
            whole = torch.zeros_like(x)
            for top in range(0, x.shape[2], side):
                for left in range(0, x.shape[3], side):
                    area = (..., slice(top, top + side), slice(left, left + side))
                    t = x[area].flatten(2).transpose(1, 2)
                    for j in range(depth):
                        t = released_block(w, f"levels.{i}.blocks.{j}", t, heads, ln)
                    whole[area] = t.transpose(1, 2).unflatten(2, (side, side))
            x = whole[:, :, :height, :width]
        maps.append(x)
        if i < len(arch["depths"]) - 1:
            x = conv(f"levels.{i}.downsample.reduction.0", x, 2)
    return maps


def released_block(w: Weights, name: str, t: Tensor, heads: int, ln) -> Tensor:
    mixer, normed = f"{name}.mixer", ln(f"{name}.norm1", t)
    attends = f"{mixer}.qkv.weight" in w
    mixed = (
        released_attention(w, mixer, normed, heads) if attends else released_mixer(w, mixer, normed)
    )
    t = t + w.get(f"{name}.gamma_1", 1) * mixed
    fc1, fc2 = ((w[f"{name}.mlp.{k}.weight"], w[f"{name}.mlp.{k}.bias"]) for k in ("fc1", "fc2"))
    return t + w.get(f"{name}.gamma_2", 1) * F.linear(
        F.gelu(F.linear(ln(f"{name}.norm2", t), *fc1)), *fc2
    )


def test_every_architecture_is_counted():
    assert set(PARAMETERS) == set(MAMBAVISION_ARCHS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_names_are_those_of_the_release(name: str):
    arch = MAMBAVISION_ARCHS[name]
    with torch.device("meta"):
        classifier = MambaVision(name, out_indices=(3,), output_norm="batch")
        head = nn.Linear(classifier.out_channels[-1], 1000)
        backbone = MambaVision(name)
        counts = [sum(p.numel() for p in m.parameters()) for m in (classifier, head, backbone)]
        for model, outputs in ((classifier, "head"), (backbone, "outnorm")):
            shapes = released_shapes(arch._asdict(), outputs)
            released = {k: torch.empty(s) for k, s in shapes.items()}
            assert mambavision_arch(released)["depths"] == arch.depths
            converted = convert_mambavision(released)
            mine = {k: v.shape for k, v in model.state_dict().items()}
            mine = {k: s for k, s in mine.items() if not k.endswith("num_batches_tracked")}
            assert {k: v.shape for k, v in converted.items() if not k.startswith("head")} == mine
    assert (counts[0] + counts[1], counts[2]) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(64, 96), (77, 45), (1, 1)])
@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_outputs_and_gradients_are_those_of_the_release(size: tuple[int, int], layer_scale):
    torch.manual_seed(0)
    arch = SMALL | {"layer_scale": layer_scale}
    weights = random_weights(released_shapes(arch, "outnorm"))
    leaves = {k: v.requires_grad_("running" not in k) for k, v in weights.items()}
    model = MambaVision(arch).double().eval()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    converted = convert_mambavision({k: v.detach() for k, v in weights.items()})
    model.load_state_dict(converted | counters)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    maps = released_forward(leaves, arch, image)
    theirs = [
        F.layer_norm(
            x.permute(0, 2, 3, 1),
            x.shape[1:2],
            leaves[f"outnorm{i}.weight"],
            leaves[f"outnorm{i}.bias"],
        ).permute(0, 3, 1, 2)
        for i, x in enumerate(maps)
    ]
    mine = model(image)
    for x, y in zip(mine, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    cotangents = random_cotangents(theirs)
    torch.autograd.backward(theirs, cotangents)
    torch.autograd.backward(mine, cotangents)
    expected = convert_mambavision({k: v.grad for k, v in leaves.items() if v.grad is not None})
    found = {name: p.grad for name, p in model.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        scale = expected[name].abs().max()
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=float(1e-9 * (1 + scale)))


def test_half_of_a_stage_attends_the_odd_block_scans():
    with torch.device("meta"):
        model = MambaVision("small")
    kinds = [[type(block.mixer) for block in model.stages[i]] for i in (2, 3)]
    assert kinds[0] == 4 * [HalfScanMixer] + 3 * [SelfAttention]
    assert kinds[1] == 3 * [HalfScanMixer] + 2 * [SelfAttention]


class Recorder(nn.Module):
    """In place of a block: keeps what it gets, and gives back a thousand more."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x + 1000


def test_windows_by_hand():
    """A map of 3 x 5 in windows of 2 x 2: rows first, zeros at the bottom and the right."""
    model = MambaVision(
        {"dim": 8, "stem_dim": 4, "depths": (1, 1, 1), "num_heads": (2,), "window": (2,)}
    )
    model.stages[2] = nn.Sequential(Recorder())
    tokens = torch.arange(1.0, 16.0).view(1, 3, 5, 1).expand(-1, -1, -1, 32)
    result = model.run_stage(2, tokens)
    seen = model.stages[2][0].seen[..., 0].int().tolist()
    assert seen[:3] == [[1, 2, 6, 7], [3, 4, 8, 9], [5, 0, 10, 0]]
    assert seen[3:] == [[11, 12, 0, 0], [13, 14, 0, 0], [15, 0, 0, 0]]
    assert torch.equal(result, tokens + 1000)


def test_a_window_of_none_is_the_whole_map():
    torch.manual_seed(0)
    whole = MambaVision(SMALL, window=(None, None)).eval()
    exact = MambaVision(SMALL, window=(6, 3)).eval()  # maps of 6 x 6 and 3 x 3 at 96 x 96
    exact.load_state_dict(whole.state_dict())
    image = torch.randn(2, 3, 96, 96)
    for x, y in zip(whole(image), exact(image), strict=True):
        torch.testing.assert_close(x, y)
    for y, shape in zip(
        whole(torch.randn(1, 3, 70, 33)), [(18, 9), (9, 5), (5, 3), (3, 2)], strict=True
    ):
        assert y.shape[2:] == shape


def test_a_detector_starts_from_a_classifier(tmp_path: Path):
    """Whose last norm is another one: it is left out, and the output's own begins new."""
    torch.manual_seed(0)
    classifier = MambaVision(SMALL, out_indices=(3,), output_norm="batch")
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "classifier.pth")}
    detector = MambaVision(SMALL, init_cfg=init_cfg)
    detector.init_weights()
    assert torch.equal(
        detector.stages[3][0].mixer.in_proj.weight, classifier.stages[3][0].mixer.in_proj.weight
    )
    for i in range(4):
        assert detector.get_submodule(f"norm{i}").weight.eq(1).all()
    torch.save(detector.state_dict(), tmp_path / "classifier.pth")
    again = MambaVision(SMALL, out_indices=(3,), output_norm="batch", init_cfg=init_cfg)
    with pytest.raises(CheckpointMismatchError, match=r"norm3\.running_mean"):
        again.init_weights()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": SMALL | {"num_heads": (2,)}}, "num_heads must have a value for each of the 2"),
        ({"arch": SMALL, "window": (7,)}, "window must have a value for each of the 2"),
        ({"arch": SMALL, "output_norm": "group"}, "output_norm must be 'layer' or 'batch'"),
        ({"arch": SMALL | {"num_heads": (3, 4)}}, "num_heads must divide dim"),
        ({"arch": SMALL | {"dim": 8, "depths": (1, 1, 1, 1), "num_heads": (5, 4)}}, None),
    ],
)
def test_wrong_settings(settings: dict, message: str | None):
    if message is None:  # no attention in stages of one block, so heads are not asked for
        MambaVision(**settings)
        return
    with pytest.raises(ValueError, match=message):
        MambaVision(**settings)


def test_the_converter_refuses_what_it_does_not_know():
    weights = random_weights(released_shapes(SMALL, "head"))
    wrapped = {f"model.{k}": v for k, v in weights.items()}
    assert convert_mambavision(wrapped).keys() == convert_mambavision(weights).keys()
    with pytest.raises(UnknownNamesError, match=r"levels\.2\.blocks\.0\.mixer\.gate"):
        convert_mambavision(weights | {"levels.2.blocks.0.mixer.gate": torch.zeros(1)})
    lacking = {k: v for k, v in weights.items() if k != "levels.2.blocks.0.mixer.conv1d_z.weight"}
    with pytest.raises(CheckpointMismatchError, match="conv1d_x without conv1d_z"):
        convert_mambavision(lacking)
    with pytest.raises(CheckpointMismatchError, match="no published MambaVision has these sizes"):
        mambavision_arch(weights)
    halves = ["levels.2.blocks.0.mixer.conv1d_x.weight", "levels.2.blocks.0.mixer.conv1d_z.weight"]
    (name,) = [
        n for n in convert_mambavision(weights) if re.fullmatch(r"stages\.2\.0.*conv_weight", n)
    ]
    both = convert_mambavision(weights)[name]
    assert torch.equal(both, torch.cat([weights[half] for half in halves]).squeeze(1))
