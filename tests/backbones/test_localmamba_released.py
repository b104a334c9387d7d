"""LocalVim and LocalVMamba against an independent rewriting, through the converters of weights."""

import local_reference as reference
import pytest
import torch
from torch import Tensor, nn

from mmquad.backbones import LocalVim, LocalVMamba
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.layers import rotate_grid
from mmquad.releases.localmamba import convert_localvim, convert_localvmamba

DEPTHS = [1, 2]
VMAMBA_DIRECTIONS = ["h v_flip w2 w7_flip", "v w2_flip w3 h_flip", "w7 w2 v h"]
VIM_DIRECTIONS = ["h v_flip w2 w7_flip", "w2_flip v w3 h_flip"]
CANDIDATES = "h h_flip v v_flip w2 w2_flip w7 w7_flip"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def lists(directions: list[str]) -> list[list[str]]:
    return [line.split() for line in directions]


def leaves(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.requires_grad_() for name, value in weights.items()}


def assert_same_outputs_and_go_back(outputs: list[Tensor], expected: list[Tensor]) -> None:
    upstream = [torch.randn_like(y) for y in outputs]
    sum((y * g).sum() for y, g in zip(outputs, upstream, strict=True)).backward()
    sum((y * g).sum() for y, g in zip(expected, upstream, strict=True)).backward()
    for mine, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def assert_same_gradients(mine: dict, theirs: dict) -> None:
    assert set(mine) == set(theirs)
    for name, expected in theirs.items():
        scale = expected.abs().max()
        assert scale > 0, f"{name} does not take part"
        assert (mine[name] - expected).abs().max() < 1e-9 * scale, name


def fields_of_vmamba(search: bool) -> dict:
    return {"dim": 8, "depths": DEPTHS, "search": search}


@pytest.mark.parametrize(
    ("height", "width", "search"), [(24, 24, False), (22, 37, False), (20, 28, True)]
)
def test_localvmamba(height: int, width: int, search: bool) -> None:
    directions = [CANDIDATES] * 3 if search else VMAMBA_DIRECTIONS
    count = len(directions[0].split())
    shapes = reference.localvmamba_shapes(8, DEPTHS, count, search)
    weights = leaves(reference.random_weights(shapes))
    image = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = reference.localvmamba(weights, image, DEPTHS, lists(directions), search)

    model = LocalVMamba(fields_of_vmamba(search), directions=directions, out_indices=(0, 1))
    model = model.double().eval()
    detached = {name: value.detach() for name, value in weights.items()}
    model.load_state_dict(convert_localvmamba(detached), strict=True)
    outputs = model(image)
    assert_same_outputs_and_go_back(outputs, expected)
    gradients = convert_localvmamba({name: value.grad for name, value in weights.items()})
    assert_same_gradients({n: p.grad for n, p in model.named_parameters()}, gradients)


@pytest.mark.parametrize(
    ("size", "class_token"), [((48, 48), False), ((42, 47), False), ((48, 48), True)]
)
def test_localvim(size: tuple[int, int], class_token: bool) -> None:
    dim, classes, grid = 16, 5, (3, 3)
    shapes = reference.localvim_shapes(dim, 2, 9, classes, 4, class_token)
    weights = leaves(reference.random_weights(shapes))
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    logits, _ = reference.localvim(weights, image, lists(VIM_DIRECTIONS), grid, side=14)

    model = LocalVim(
        {"dim": dim, "depth": 2, "grid": grid, "class_token": class_token},
        directions=VIM_DIRECTIONS,
        out_type="class_token" if class_token else "map",
    )
    head = nn.Linear(dim, classes)
    whole = nn.ModuleDict({"backbone": model, "head": nn.ModuleDict({"fc": head})}).double().eval()
    converted = convert_localvim({name: value.detach() for name, value in weights.items()})
    whole.load_state_dict(prefixed(converted), strict=True)
    feature = model(image)[-1]
    mine = head(feature if class_token else feature.mean((2, 3)))
    torch.testing.assert_close(mine, logits, rtol=0, atol=1e-10)

    upstream = torch.randn_like(logits)
    (mine * upstream).sum().backward()
    (logits * upstream).sum().backward()
    gradients = convert_localvim({name: value.grad for name, value in weights.items()})
    mine_gradients = {name: p.grad for name, p in whole.named_parameters()}
    assert_same_gradients(mine_gradients, prefixed(gradients))


def prefixed(converted: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k if k.startswith("head.") else f"backbone.{k}": v for k, v in converted.items()}


def small_localvim() -> dict[str, Tensor]:
    return reference.random_weights(reference.localvim_shapes(16, 2, 9, 5))


def backbone_weights(depth: int, tokens: int, outputs: int) -> dict[str, Tensor]:
    """Of the release's backbone of detectors, with LayerNorm as in its configs."""
    shapes = reference.localvim_shapes(16, depth, tokens, 5)
    shapes = {k: v for k, v in shapes.items() if not k.startswith(("norm_f.", "head."))}
    shapes |= {f"layers.{i}.norm.bias": (16,) for i in range(depth)}
    shapes |= {f"outnorm_{n}.{part}": (16,) for n in range(outputs) for part in ("weight", "bias")}
    return reference.random_weights(shapes)


@pytest.mark.parametrize(("grid", "side"), [((3, 3), 14), ((2, 3), None)])
def test_localvim_as_the_backbone_of_the_releases_detectors(
    grid: tuple[int, int], side: int | None
) -> None:
    """What the mixers of some layers gave, under a LayerNorm each, numbered by output."""
    directions, out_indices = [*VIM_DIRECTIONS, "h w2 w2_flip w7"], (0, 2)
    if side is None:  # the release's inverse of v is wrong on such a grid
        directions = [line.replace("v", "w3") for line in directions]
    weights = leaves(backbone_weights(3, grid[0] * grid[1], len(out_indices)))
    image = torch.randn(2, 3, 16 * grid[0], 16 * grid[1], dtype=torch.float64)
    _, branches = reference.localvim(weights, image, lists(directions), grid, side)
    normed = (
        reference.stream_norm(weights, f"outnorm_{n}", branches[i])
        for n, i in enumerate(out_indices)
    )
    expected = [y.transpose(1, 2).unflatten(2, grid) for y in normed]

    arch = {"dim": 16, "depth": 3, "grid": grid, "rotary_side": side, "norm": "layer"}
    model = LocalVim(arch, directions=directions, features="mixer", out_indices=out_indices)
    model = model.double().eval()
    detached = {name: value.detach() for name, value in weights.items()}
    converted = convert_localvim(detached, out_indices=out_indices, grid=grid)
    model.load_state_dict(converted, strict=True)
    outputs = model(image)
    assert_same_outputs_and_go_back(outputs, expected)
    gradients = {name: value.grad for name, value in weights.items()}
    assert_same_gradients(
        {n: p.grad for n, p in model.named_parameters()},
        convert_localvim(gradients, out_indices=out_indices, grid=grid),
    )


def test_rotary_tables_can_be_interpolated_as_in_the_release() -> None:
    arch = {"dim": 16, "depth": 2, "grid": (3, 3)}
    model, released = (LocalVim(arch, interpolate_rotary=on).eval() for on in (False, True))
    released.load_state_dict(model.state_dict())
    for size, same in [((48, 48), True), ((48, 64), False)]:
        image = torch.randn(1, 3, *size)
        assert torch.equal(model(image)[0], released(image)[0]) == same
    x = torch.randn(1, 12, 16)
    block = released.stages[1]
    turned = rotate_grid(x.view(1, 3, 4, 16), 14, table_grid=(3, 3)).view_as(x)
    torch.testing.assert_close(block(x, 3, 4)[0], turned + block.mixer(block.norm1(turned), 3, 4))


def test_outputs_of_other_layers_do_not_fit() -> None:
    weights = backbone_weights(3, 9, 3)
    with pytest.raises(CheckpointMismatchError, match=r"'outnorm_2\.weight' is not a name"):
        convert_localvim(weights, out_indices=(0, 2))
    with pytest.raises(CheckpointMismatchError, match="hold 2 x 3 positions of patches, got 9"):
        convert_localvim(weights, out_indices=(0, 1, 2), grid=(2, 3))
    with pytest.raises(ValueError, match=r"arch.norm must be one of \['rms', 'layer'\]"):
        LocalVim({"dim": 16, "depth": 2, "norm": "batch"})


def test_every_direction_keeps_its_own_state_matrix() -> None:
    """In the release four parameters share one storage, and loading on a CPU fills all with one."""
    weights = small_localvim()
    model = LocalVim({"dim": 16, "depth": 2, "grid": (3, 3)}, directions=VIM_DIRECTIONS)
    converted = convert_localvim(weights)
    model.load_state_dict({k: v.float() for k, v in converted.items() if k[:4] != "head"})
    for i, block in enumerate(model.stages):
        for k in range(4):
            expected = weights[f"layers.{i}.mixer.A_log_{k}"].float()
            assert torch.equal(block.mixer.ssm.A_log[k], expected)
    storages = {value.untyped_storage().data_ptr() for value in converted.values()}
    sources = [v for k, v in weights.items() if "A_log" in k]
    assert not storages & {value.untyped_storage().data_ptr() for value in sources}


def test_rotary_tables_are_recomputed() -> None:
    tables = {"rope.freqs_cos": torch.ones(9, 16), "rope.freqs_sin": torch.zeros(9, 16)}
    weights = small_localvim()
    with_tables = convert_localvim(weights | tables)
    assert with_tables.keys() == convert_localvim(weights).keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.mixer.wrong": 1}, "not a name of the released LocalVim"),
        ({"layers.0.mixer.x_proj_2.weight": None}, "x_proj_2.weight is missing"),
        ({"layers.1.mixer.A_log_0": None}, r"layers\.1\.mixer\.A_log_0 is missing"),
        ({"norm_f.weight": None}, "norm_f.weight is missing"),
        ({"pos_embed": None}, "weights of LocalVim: pos_embed is missing"),
        ({"pos_embed": (1, 8, 16)}, "square number of positions, got 8"),
        ({"layers.0.mixer.D_1": (31,)}, "equal shapes of all directions"),
    ],
)
def test_defects_of_localvim(change: dict, message: str) -> None:
    weights = small_localvim()
    for name, shape in change.items():
        if shape is None:
            del weights[name]
        else:
            weights[name] = torch.zeros(shape)
    with pytest.raises(CheckpointMismatchError, match=message):
        convert_localvim(weights)


def test_defects_of_localvmamba() -> None:
    weights = reference.random_weights(reference.localvmamba_shapes(8, [1]))
    with pytest.raises(CheckpointMismatchError, match="not a name of the released LocalVMamba"):
        convert_localvmamba(weights | {"wrong": torch.zeros(1)})
    del weights["layers.0.blocks.0.op.dt_projs_bias"]
    with pytest.raises(CheckpointMismatchError, match=r"beside .*dt_projs_bias \[K, D\]"):
        convert_localvmamba(weights)
