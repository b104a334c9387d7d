"""GroupMamba: sizes of the paper, outputs of the released code, and its class token."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cotangents import project, random_cotangents
from torch import Tensor, nn

from mmquad.backbones import GroupMamba
from mmquad.backbones.groupmamba import GROUPMAMBA_ARCHS
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.layers import GroupBlock, GroupMixer
from mmquad.releases.convert import convert_weights
from mmquad.releases.groupmamba import convert_groupmamba, groupmamba_arch
from mmquad.releases.renames import UnknownNamesError

sys.path.append(str(Path(__file__).parent))
from released_families import Shapes, Weights, batch_norm, linear, norm, random_weights

# Of the release: classifiers with two heads of 1000 classes; and without heads and class block.
PARAMETERS = {
    "tiny": (23_361_917, 20_462_224),
    "small": (34_781_555, 31_143_298),
    "base": (57_150_838, 53_512_581),
}
ENTRIES = {"tiny": 1266, "small": 1693, "base": 2120}
SMALL = {"dims": (8, 12, 16, 36), "stem_dim": 4, "depths": (1, 2, 1, 1), "mlp_ratios": (3, 2, 2, 2)}
CLASSES = 7
CLASS_PARAMETERS = ("class_block.norm1.weight", "class_block.mixer.scale", "norm3.bias")


def released_shapes(arch: dict, classes: int = CLASSES) -> Shapes:
    """Entries of a released file, a classifier with two heads."""
    dims, stem, ratios = arch["dims"], arch["stem_dim"], arch["mlp_ratios"]
    shapes: Shapes = {}
    for i, (channels, side) in zip((0, 3, 6), ((3, 7), (stem, 3), (stem, 3)), strict=True):
        shapes[f"patch_embed1.conv.{i}.weight"] = (stem, channels, side, side)
        shapes |= batch_norm(f"patch_embed1.conv.{i + 1}", stem)

    def layer(name: str, c: int) -> None:
        group, rank, reduced = c // 4, -(-(c // 4) // 16), max(c // 16, 1)
        shapes.update(norm(f"{name}.norm", c) | linear(f"{name}.proj", c, c))
        shapes.update(linear(f"{name}.fc1", reduced, c) | linear(f"{name}.fc2", c, reduced))
        shapes[f"{name}.skip_scale"] = (1,)
        for g in range(1, 5):
            one = f"{name}.mamba_g{g}"
            shapes.update(linear(f"{one}.in_proj", 2 * group, group, bias=False))
            shapes.update(linear(f"{one}.out_proj", group, group, bias=False))
            shapes.update(norm(f"{one}.out_norm", group))
            shapes[f"{one}.conv2d.weight"] = (group, 1, 3, 3)
            shapes[f"{one}.conv2d.bias"] = (group,)
            shapes[f"{one}.x_proj_weight"] = (1, rank + 2, group)
            shapes[f"{one}.dt_projs_weight"] = (1, group, rank)
            shapes[f"{one}.dt_projs_bias"] = (1, group)
            shapes[f"{one}.A_logs"] = (group, 1)
            shapes[f"{one}.Ds"] = (group,)

    into = stem
    for i, (c, depth, ratio) in enumerate(zip(dims, arch["depths"], ratios, strict=True), 1):
        shapes[f"patch_embed{i}.proj.weight"] = (c, into, 3, 3)
        shapes[f"patch_embed{i}.proj.bias"] = (c,)
        shapes |= norm(f"patch_embed{i}.norm", c) | norm(f"norm{i}", c)
        for j in range(depth):
            block = f"block{i}.{j}"
            layer(f"{block}.attn", c)
            shapes |= norm(f"{block}.norm2", c)
            shapes |= linear(f"{block}.mlp.fc1", ratio * c, c)
            shapes |= linear(f"{block}.mlp.fc2", c, ratio * c)
            shapes[f"{block}.mlp.dwconv.dwconv.weight"] = (ratio * c, 1, 3, 3)
            shapes[f"{block}.mlp.dwconv.dwconv.bias"] = (ratio * c,)
        into = c
    post, hidden = "post_network.0", ratios[-1] * into
    layer(f"{post}.attn", into)
    shapes |= norm(f"{post}.norm1", into) | norm(f"{post}.norm2", into)
    shapes |= linear(f"{post}.mlp.fc1", hidden, into) | linear(f"{post}.mlp.fc2", into, hidden)
    return shapes | linear("head", classes, into) | linear("dist_head", classes, into)


def released_order(group: int, height: int, width: int) -> list[int]:
    """Tokens ``row * W + column`` in the order that a group, from 1, reads them."""
    rows = [i * width + j for i in range(height) for j in range(width)]
    columns = [i * width + j for j in range(width) for i in range(height)]
    return {1: rows, 2: columns, 3: rows[::-1], 4: columns[::-1]}[group]


def depthwise(w: Weights, name: str, x: Tensor) -> Tensor:
    """3x3, of ``[B, H, W, C]``."""
    x, weight = x.permute(0, 3, 1, 2), w[f"{name}.weight"]
    y = F.conv2d(x, weight, w[f"{name}.bias"], padding=1, groups=x.shape[1])
    return y.permute(0, 2, 3, 1)


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def released_group(w: Weights, name: str, n: Tensor, order: list[int]) -> Tensor:
    """One quarter of the channels ``[B, H, W, G]``, token by token."""
    batch, height, width, group = n.shape
    v, z = (n @ w[f"{name}.in_proj.weight"].T).split(group, dim=-1)
    s = F.silu(depthwise(w, f"{name}.conv2d", v)).flatten(1, 2)
    rank = w[f"{name}.dt_projs_weight"].shape[2]
    A = -w[f"{name}.A_logs"][:, 0].exp()
    h, outputs = s.new_zeros(batch, group), [torch.empty(0)] * len(order)
    for t in order:
        r, b, c = (s[:, t] @ w[f"{name}.x_proj_weight"][0].T).split([rank, 1, 1], dim=1)
        steps = r @ w[f"{name}.dt_projs_weight"][0].T + w[f"{name}.dt_projs_bias"][0]
        dt = F.softplus(steps)
        h = (dt * A).exp() * h + dt * b * s[:, t]
        outputs[t] = c * h + w[f"{name}.Ds"] * s[:, t]
    y = torch.stack(outputs, dim=1).view(batch, height, width, group)
    y = layer_norm(w, f"{name}.out_norm", y, 1e-5) * F.silu(z)
    return y @ w[f"{name}.out_proj.weight"].T


def released_layer(w: Weights, name: str, x: Tensor) -> Tensor:
    n = layer_norm(w, f"{name}.norm", x, 1e-5)
    a = F.relu(affine(w, f"{name}.fc1", n.mean((1, 2))))
    a = affine(w, f"{name}.fc2", a).sigmoid()[:, None, None]
    size, group = x.shape[1:3], x.shape[3] // 4
    parts = [
        released_group(w, f"{name}.mamba_g{g + 1}", part, released_order(g + 1, *size))
        for g, part in enumerate(n.split(group, dim=-1))
    ]
    y = torch.cat(parts, dim=-1) * w[f"{name}.skip_scale"] * n * a
    return affine(w, f"{name}.proj", layer_norm(w, f"{name}.norm", y, 1e-5))


def released_forward(w: Weights, arch: dict, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Four maps, and the logits of both heads."""
    x = image
    for i, stride in ((0, 2), (3, 1), (6, 1)):
        weight = w[f"patch_embed1.conv.{i}.weight"]
        x, bn = (
            F.conv2d(x, weight, None, stride, weight.shape[2] // 2),
            f"patch_embed1.conv.{i + 1}",
        )
        mean, variance = w[f"{bn}.running_mean"], w[f"{bn}.running_var"]
        x = F.relu(F.batch_norm(x, mean, variance, w[f"{bn}.weight"], w[f"{bn}.bias"]))
    maps = []
    for i, depth in enumerate(arch["depths"], 1):
        embed = f"patch_embed{i}"
        x = F.conv2d(x, w[f"{embed}.proj.weight"], w[f"{embed}.proj.bias"], 2, 1)
        x = layer_norm(w, f"{embed}.norm", x.permute(0, 2, 3, 1), 1e-5)
        for j in range(depth):
            block = f"block{i}.{j}"
            x = x + released_layer(w, f"{block}.attn", x)
            y = affine(w, f"{block}.mlp.fc1", layer_norm(w, f"{block}.norm2", x, 1e-6))
            y = F.gelu(depthwise(w, f"{block}.mlp.dwconv.dwconv", y))
            x = x + affine(w, f"{block}.mlp.fc2", y)
        last, x = x, layer_norm(w, f"norm{i}", x, 1e-6).permute(0, 3, 1, 2)
        maps.append(x)
    post = "post_network.0"
    t = last.mean((1, 2), keepdim=True)
    t = t + layer_norm(w, f"{post}.norm1", released_layer(w, f"{post}.attn", t), 1e-6)
    y = F.gelu(affine(w, f"{post}.mlp.fc1", layer_norm(w, f"{post}.norm2", t, 1e-6)))
    t = layer_norm(w, "norm4", t + affine(w, f"{post}.mlp.fc2", y), 1e-6)[:, 0, 0]
    return maps, affine(w, "head", t), affine(w, "dist_head", t)


def weights_and_leaves() -> tuple[Weights, Weights]:
    """Random weights of the small arch, and the same as leaves of a graph."""
    torch.manual_seed(0)
    weights = random_weights(released_shapes(SMALL))
    return weights, {k: v.clone().requires_grad_("running" not in k) for k, v in weights.items()}


def loaded(model: GroupMamba, weights: Weights) -> dict[str, Tensor]:
    """The model, filled with converted weights; the head's are returned."""
    converted = convert_groupmamba(weights)
    head = {k: converted.pop(k) for k in ("head.fc.weight", "head.fc.bias")}
    mine = model.state_dict()
    counters = {k: v for k, v in mine.items() if k.endswith("num_batches_tracked")}
    fitting = {k: v for k, v in converted.items() if k in mine}
    assert set(converted) - set(fitting) == (
        set() if model.class_block else {k for k in converted if k.startswith("class_block.")}
    )
    model.load_state_dict(fitting | counters)
    return head


def test_every_architecture_is_counted():
    assert set(PARAMETERS) == set(GROUPMAMBA_ARCHS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_names_are_those_of_the_release(name: str):
    arch = GROUPMAMBA_ARCHS[name]
    with torch.device("meta"):
        classifier = GroupMamba(name, out_type="class_token", out_indices=(3,))
        backbone = GroupMamba(name)
        head = nn.Linear(classifier.out_channels[-1], 1000)
    shapes = released_shapes(arch._asdict(), 1000)
    released = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    assert groupmamba_arch(released) == arch._asdict()
    mine = {k: v.shape for k, v in classifier.state_dict().items()}
    counters = [k for k in mine if k.endswith("num_batches_tracked")]
    assert len(shapes) + len(counters) == ENTRIES[name]
    converted = convert_groupmamba(released)
    assert converted.pop("head.fc.weight").shape == head.weight.shape
    assert converted.pop("head.fc.bias").shape == head.bias.shape
    assert {k: v.shape for k, v in converted.items()} == {
        k: s for k, s in mine.items() if k not in counters
    }
    counts = [sum(p.numel() for p in m.parameters()) for m in (classifier, head, backbone)]
    assert (counts[0] + 2 * counts[1], counts[2]) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(64, 48), (37, 45), (1, 1)])
def test_maps_and_gradients_are_those_of_the_release(size: tuple[int, int]):
    """On maps that are not square too, where the release's own backward is wrong."""
    weights, leaves = weights_and_leaves()
    model = GroupMamba(SMALL).double().eval()
    loaded(model, weights)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    mine, theirs = model(image), released_forward(leaves, SMALL, image)[0]
    for x, y in zip(mine, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    cotangents = random_cotangents(theirs)
    torch.autograd.backward(theirs, cotangents)
    torch.autograd.backward(mine, cotangents)
    compare_gradients(model, leaves)


def test_logits_and_gradients_are_those_of_the_release():
    """Of both heads averaged, which one head with averaged weights gives."""
    weights, leaves = weights_and_leaves()
    model = GroupMamba(SMALL, out_type="class_token", out_indices=(3,)).double().eval()
    head = loaded(model, weights)
    image = torch.randn(3, 3, 45, 37, dtype=torch.float64)
    (token,) = model(image)
    assert token.shape == (3, SMALL["dims"][-1])
    logits = F.linear(token, head["head.fc.weight"], head["head.fc.bias"])
    _, one, other = released_forward(leaves, SMALL, image)
    theirs = (one + other) / 2
    torch.testing.assert_close(logits, theirs, rtol=1e-9, atol=1e-9)
    cotangents = random_cotangents([theirs])
    torch.autograd.backward([theirs], cotangents)
    torch.autograd.backward([logits], cotangents)
    compare_gradients(model, leaves)


def compare_gradients(model: GroupMamba, leaves: Weights) -> None:
    heads = ("head.", "dist_head.")
    expected = convert_groupmamba(
        {k: v.grad for k, v in leaves.items() if v.grad is not None and not k.startswith(heads)}
    )
    found = {name: p.grad for name, p in model.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        assert gradient is not None
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-9 * (1 + scale))


@pytest.mark.parametrize(
    ("height", "width", "orders"),
    [
        (2, 3, ["012345", "031425", "543210", "524130"]),
        (3, 3, ["012345678", "036147258", "876543210", "852741630"]),
    ],
)
def test_groups_read_in_the_published_orders(height: int, width: int, orders: list[str]):
    for group, order in zip(GroupMixer(8).groups, orders, strict=True):
        tables = group.scan.tables(height, width, torch.device("cpu"))
        assert tables.order.flatten().tolist() == [int(token) for token in order]


def test_norms_of_unread_maps_are_part_of_the_network():
    """The next stage reads them: a classifier has them, and weights without them do not fit."""
    classifier = GroupMamba(SMALL, out_type="class_token", out_indices=(3,))
    names = set(classifier.state_dict())
    assert {f"norm{i}.weight" for i in range(4)} <= names
    assert set(GroupMamba(SMALL, out_indices=(0, 1)).tolerated_entries()["may_ignore"]) == {
        "norm2.",
        "norm3.",
        "stages.2.",
        "stages.3.",
        "downsamples.1.",
        "downsamples.2.",
        "class_block.",
    }
    assert classifier.tolerated_entries() == {"may_miss": [], "may_ignore": []}
    torch.manual_seed(0)
    image = torch.randn(1, 3, 40, 40)
    before = classifier.eval()(image)[0]
    with torch.no_grad():
        classifier.norm0.bias += torch.randn_like(classifier.norm0.bias)
    assert not torch.allclose(classifier(image)[0], before)


def test_the_class_token_beside_maps():
    torch.manual_seed(0)
    both = GroupMamba(SMALL, out_type="class_token").eval()
    maps = GroupMamba(SMALL, out_indices=(0, 1, 2)).eval()
    weights = both.state_dict()
    maps.load_state_dict({k: weights[k] for k in maps.state_dict()})
    image = torch.randn(2, 3, 33, 47)
    *first, token = both(image)
    for x, y in zip(first, maps(image), strict=True):
        assert torch.equal(x, y)
    assert token.shape == (2, SMALL["dims"][-1])


def test_frozen_stages_hold_the_class_block():
    model = GroupMamba(SMALL, out_type="class_token", frozen_stages=4, out_indices=(3,))
    assert not any(p.requires_grad for p in model.parameters())
    model = GroupMamba(SMALL, out_type="class_token", frozen_stages=3, out_indices=(3,)).train()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"stages", "downsamples", "norm3", "class_block"}
    assert {n for n, _ in model.named_children() if n == "norm0" and not model.norm0.training}
    project(model(torch.randn(2, 3, 32, 32))).backward()


def test_layers_stay_wide_under_autocast():
    torch.manual_seed(0)
    block, x = GroupBlock(8, GroupMixer(8)), torch.randn(1, 3, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
        assert block(x.bfloat16()).dtype == torch.float32
    assert torch.equal(y, block(x))


def test_refusals():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        GroupMamba(SMALL | {"dims": (6, 8, 8, 8)})
    with pytest.raises(ValueError, match="mlp_ratios must have a value for each of the 4 stages"):
        GroupMamba(SMALL | {"mlp_ratios": (4, 4)})
    with pytest.raises(ValueError, match="stages of one width must have one of mlp_ratios"):
        GroupMamba(SMALL | {"dims": (8, 8, 16, 36)})
    with pytest.raises(ValueError, match="'map' or 'class_token', got 'token'"):
        GroupMamba(SMALL, out_type="token")
    with pytest.raises(ValueError, match="needs the last stage, 3, in out_indices"):
        GroupMamba(SMALL, out_type="class_token", out_indices=(2,))


def test_the_converter_refuses_what_it_does_not_know():
    weights = random_weights(released_shapes(SMALL))
    with pytest.raises(UnknownNamesError, match=r"block1\.0\.attn\.mamba_g1\.gate"):
        convert_groupmamba(weights | {"block1.0.attn.mamba_g1.gate": torch.zeros(1)})
    wrong = weights | {"dist_head.bias": torch.zeros(CLASSES + 1)}
    with pytest.raises(CheckpointMismatchError, match=r"of the shape of dist_head\.bias"):
        convert_groupmamba(wrong)
    one = {k: v for k, v in weights.items() if not k.startswith("dist_head.")}
    assert torch.equal(convert_groupmamba(one)["head.fc.weight"], weights["head.weight"])


def test_whole_files_convert_with_and_without_the_class_block():
    weights = {k: v.float() for k, v in random_weights(released_shapes(SMALL)).items()}
    counters = {f"patch_embed1.conv.{i}.num_batches_tracked": torch.tensor(5) for i in (1, 4, 7)}
    whole = convert_weights(weights | counters)
    assert (whole.model, whole.matched) == ("GroupMamba", whole.total)
    assert "backbone.class_block.branch_norm.weight" in whole.state_dict
    bare = {k: v for k, v in weights.items() if not k.startswith(("post_network", "head", "dist"))}
    backbone = convert_weights(bare | counters)
    assert backbone.matched == backbone.total < whole.total


def test_rates_of_the_class_block_are_those_of_the_last_norm():
    model = GroupMamba(SMALL, out_type="class_token", out_indices=(3,))
    depths = {model.get_layer_depth(f"backbone.{name}", "backbone.") for name in CLASS_PARAMETERS}
    assert depths == {(sum(SMALL["depths"]), sum(SMALL["depths"]) + 2)}
