"""VMamba, Vim and PlainMamba: sizes of the papers, and the outputs of their released code."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.backbones import PlainMamba, Vim, VMamba
from mmquad.backbones.plainmamba import PLAINMAMBA_ARCHS
from mmquad.backbones.vim import VIM_ARCHS
from mmquad.backbones.vmamba import VMAMBA_ARCHS
from mmquad.checkpoints import CheckpointMismatchError, load_strict
from mmquad.releases.plainmamba import convert_plainmamba, plainmamba_arch
from mmquad.releases.vim import convert_vim, vim_arch
from mmquad.releases.vmamba import convert_vmamba, vmamba_arch

sys.path.append(str(Path(__file__).parent))
from released_families import (
    plainmamba_forward,
    plainmamba_shapes,
    random_weights,
    vim_forward,
    vim_shapes,
    vmamba_forward,
    vmamba_shapes,
)

# Of the releases, classifiers with 1000 classes; PlainMamba's without the head.
PARAMETERS = {
    (VMamba, "vanilla-tiny"): 22_893_448,
    (VMamba, "vanilla-small"): 44_417_416,
    (VMamba, "vanilla-base"): 76_254_056,
    (VMamba, "tiny-s2l5"): 30_705_832,
    (VMamba, "small-s2l15"): 50_147_752,
    (VMamba, "base-s2l15"): 88_557_800,
    (VMamba, "tiny-s1l8"): 30_249_064,
    (VMamba, "small-s1l20"): 49_012_840,
    (VMamba, "base-s1l20"): 86_614_504,
    (Vim, "tiny"): 7_148_008,
    (Vim, "small"): 25_796_584,
    (Vim, "base"): 97_598_440,
    (Vim, "tiny-stride8"): 7_250_344,
    (Vim, "small-stride8"): 26_001_256,
    (PlainMamba, "L1"): 7_551_656,
    (PlainMamba, "L2"): 26_145_832,
    (PlainMamba, "L3"): 50_956_456,
}


def test_every_architecture_is_counted():
    listed = {(VMamba, a) for a in VMAMBA_ARCHS} | {(Vim, a) for a in VIM_ARCHS}
    assert set(PARAMETERS) == listed | {(PlainMamba, a) for a in PLAINMAMBA_ARCHS}


@pytest.mark.parametrize(("kind", "arch"), PARAMETERS, ids=lambda x: getattr(x, "__name__", x))
def test_parameters_are_those_of_the_release(kind: type, arch: str):
    with torch.device("meta"):
        model = kind(arch, out_indices=(-1,))
        head = nn.Linear(model.out_channels[-1], 1000)
    count = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert count == PARAMETERS[kind, arch]


def released_shapes(kind: type, arch: str) -> dict[str, tuple]:
    if kind is VMamba:
        return vmamba_shapes(**VMAMBA_ARCHS[arch]._asdict())
    if kind is Vim:
        size = VIM_ARCHS[arch]
        return vim_shapes(size.dim, size.depth, size.grid[0] * size.grid[1])
    size = PLAINMAMBA_ARCHS[arch]
    return plainmamba_shapes(size.dim, size.depth, size.num_convs, size.conv_layers)


FUNCTIONS = {
    VMamba: (convert_vmamba, vmamba_arch, VMAMBA_ARCHS),
    Vim: (convert_vim, vim_arch, VIM_ARCHS),
    PlainMamba: (convert_plainmamba, plainmamba_arch, PLAINMAMBA_ARCHS),
}
# number of entries of the released files; batch norms have a counter more here
ENTRIES = {"vanilla-tiny": 212, "vanilla-small": 446, "tiny-s2l5": 222, "base-s1l20": 492}
ENTRIES |= {"tiny": 415, "base": 415}


@pytest.mark.parametrize(("kind", "arch"), PARAMETERS, ids=lambda x: getattr(x, "__name__", x))
def test_released_names_and_shapes_cover_the_model(kind: type, arch: str):
    convert, read_arch, archs = FUNCTIONS[kind]
    shapes = released_shapes(kind, arch)
    assert len(shapes) == ENTRIES.get(arch, len(shapes))
    with torch.device("meta"):
        released = {k: torch.empty(s) for k, s in shapes.items()}
        assert type(archs[arch])(**read_arch(released)) == archs[arch]
        converted = convert(released)
        expected = kind(arch, out_indices=(-1,)).state_dict()
    mine = {k: v.shape for k, v in converted.items() if not k.startswith("head.")}
    counters = ("num_batches_tracked",)
    assert mine == {k: v.shape for k, v in expected.items() if not k.endswith(counters)}


class Loaded:
    """A backbone with converted weights, and the head if they have one."""

    def __init__(
        self, kind: type, weights: dict[str, Tensor], grid: tuple | None = None, **settings
    ) -> None:
        self.weights = weights
        self.convert, read_arch, _ = FUNCTIONS[kind]
        self.known = {"grid": grid} if grid else {}
        arch = read_arch(weights, **self.known) | settings.pop("arch", {})
        self.backbone = kind(arch, out_indices=(-1,), **settings)
        self.whole = nn.ModuleDict({"backbone": self.backbone})
        converted = self.converted({k: v.detach() for k, v in weights.items()})
        if "head.fc.weight" in converted:
            head = nn.Linear(self.backbone.out_channels[-1], 1000)
            self.whole["head"] = nn.ModuleDict({"fc": head})
        self.whole.double().eval()
        own = self.whole.state_dict()
        counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
        load_strict(self.whole, converted | counters, source="released")

    def converted(self, released: dict[str, Tensor]) -> dict[str, Tensor]:
        new = self.convert(released, **self.known)
        return {k if k.startswith("head.") else f"backbone.{k}": v for k, v in new.items()}

    def logits(self, image: Tensor) -> Tensor:
        feature = self.backbone(image)[0]
        pooled = feature if feature.ndim == 2 else feature.mean((2, 3))
        return self.whole["head"]["fc"](pooled)[0]

    def assert_same(self, mine: Tensor, theirs: Tensor) -> None:
        """Outputs, and gradients of all parameters, which convert like weights."""
        torch.testing.assert_close(mine, theirs)
        upstream = torch.randn_like(theirs)
        for output in (mine, theirs):
            (output * upstream).sum().backward()
        gradients = {k: v if v.grad is None else v.grad for k, v in self.weights.items()}
        expected = self.converted(gradients)
        for name, parameter in self.whole.named_parameters():
            scale = expected[name].abs().max()
            assert scale > 0, f"{name} does not take part"
            assert (parameter.grad - expected[name]).abs().max() < 1e-9 * scale, name


def leaves(shapes: dict[str, tuple]) -> dict[str, Tensor]:
    """Random weights whose gradients can be asked for; statistics of batch norms have none."""
    weights = random_weights(shapes)
    return {k: v if ".running_" in k else v.requires_grad_() for k, v in weights.items()}


@pytest.mark.parametrize(
    "arch",
    [
        {"d_state": 3, "mlp_ratio": 0, "gate": True, "overlap": False, "conv_bias": True},
        {"d_state": 1, "mlp_ratio": 2, "gate": False, "overlap": True},
        {"d_state": 2, "mlp_ratio": 2, "gate": True, "overlap": True},
    ],
    ids=["vanilla", "current", "current-gated"],
)
@pytest.mark.parametrize("size", [(32, 24), (22, 30)])
def test_vmamba_is_the_released_one(arch: dict, size: tuple[int, int]):
    torch.manual_seed(0)
    weights = leaves(vmamba_shapes(8, (1, 2, 1), ssm_ratio=2, **arch))
    model = Loaded(VMamba, weights)
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    expected = vmamba_forward(weights, image, (1, 2, 1), arch["gate"], arch["overlap"])
    model.assert_same(model.logits(image), expected)


@pytest.mark.parametrize(("dim", "depths", "ratio"), [(16, (1, 1, 1, 1), 0.7), (112, (1,), 1.03)])
def test_widths_that_are_rounded_are_read_from_the_weights(dim: int, depths: tuple, ratio: float):
    """0.7 of 16 is 11, of 128 is 89; and 112 * (115 / 112) is less than 115."""
    shapes = vmamba_shapes(dim, depths, ratio, mlp_ratio=ratio)
    with torch.device("meta"):
        weights = {k: torch.empty(s) for k, s in shapes.items()}
        model = VMamba(vmamba_arch(weights), out_indices=(-1,))
    mine = {k: v.shape for k, v in model.state_dict().items()}
    converted = {k: v.shape for k, v in convert_vmamba(weights).items()}
    assert mine == {k: v for k, v in converted.items() if not k.startswith("head.")}


EARLIER = [
    (r"patch_embed\.0\.", "patch_embed.proj."),
    (r"patch_embed\.2\.", "patch_embed.norm."),
    (r"(blocks\.\d+)\.norm\.", r"\1.ln_1."),
    (r"(blocks\.\d+)\.op\.", r"\1.self_attention."),
    (r"classifier\.", ""),
]


def renamed_earlier(name: str) -> str:
    """A name of the first version's files."""
    for pattern, earlier in EARLIER:
        name = re.sub(pattern, earlier, name)
    return name


def single_file(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A name and shape of the single-file model, whose projections are grouped convolutions."""
    for projection in ("x_proj", "dt_projs"):
        if name.endswith(f".{projection}_weight"):
            return name.replace("_weight", ".weight"), value.flatten(0, 1)
    name = name.replace("downsample.norm.", "downsample.1.")
    return name.replace("downsample.reduction.", "downsample.2."), value


@pytest.mark.parametrize("overlap", [False, True])
def test_all_namings_of_vmamba_convert_alike(overlap: bool):
    weights = random_weights(vmamba_shapes(8, (1, 2, 1), 2, 2, overlap=overlap))
    expected = convert_vmamba(weights)
    linear = re.compile(r"(in_proj|out_proj|fc[12]|reduction)\.weight$")
    namings = [
        dict(single_file(*entry) for entry in weights.items()),
        # some files hold linear layers as convolutions of 1 x 1
        {k: v[..., None, None] if linear.search(k) else v for k, v in weights.items()},
    ]
    if not overlap:  # that stem is younger than the first version
        namings.append({renamed_earlier(name): value for name, value in weights.items()})
    for naming in namings:
        converted = convert_vmamba(naming)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[k], expected[k]) for k in expected)
        assert vmamba_arch(naming) == vmamba_arch(weights)


@pytest.mark.parametrize(("tokens", "stride", "side"), [(196, 16, 224), (9, 16, 48)])
def test_vim_is_the_released_one(tokens: int, stride: int, side: int):
    torch.manual_seed(0)
    weights = leaves(vim_shapes(8, 3, tokens, d_state=2))
    model = Loaded(Vim, weights, out_type="class_token")
    image = torch.randn(1, 3, side, side, dtype=torch.float64)
    model.assert_same(model.logits(image), vim_forward(weights, image, 3, stride))


def test_vim_with_layer_norm_and_images_that_patches_do_not_fill():
    """An image of 40 x 70 has 2 x 4 whole patches: built for it, the release learns 8 positions."""
    torch.manual_seed(0)
    weights = leaves(vim_shapes(8, 2, 8, d_state=2, norm_parts=("weight", "bias")))
    settings = {"grid": (2, 4), "out_type": "class_token"}
    model = Loaded(Vim, weights, arch={"cover": False}, **settings)
    image = torch.randn(1, 3, 40, 70, dtype=torch.float64)
    model.assert_same(model.logits(image), vim_forward(weights, image, 2, 16))
    covered = Loaded(Vim, weights, **settings)
    assert covered.backbone.stem(image).shape[1:3] == (3, 5)
    with pytest.raises(CheckpointMismatchError, match="a square number of positions, got 8"):
        convert_vim(weights)
    with pytest.raises(ValueError, match=r"arch.norm must be one of \['rms', 'layer'\]"):
        Vim({"dim": 8, "norm": "batch"})


@torch.no_grad()
def test_position_of_the_class_token_stays_apart():
    """At another size patches get interpolated patch positions, the token keeps its own."""
    weights = random_weights(vim_shapes(8, 1, 196))
    converted = convert_vim(weights)
    assert torch.equal(converted["class_token.position"], weights["pos_embed"][:, 98:99])
    table = converted["positions.table"].flatten(1, 2)
    assert torch.equal(table[:, :98], weights["pos_embed"][:, :98])
    assert torch.equal(table[:, 98:], weights["pos_embed"][:, 99:])
    overlapping = random_weights(vim_shapes(8, 1, 729))
    converted = convert_vim(overlapping)
    assert torch.equal(converted["class_token.position"], overlapping["pos_embed"][:, 364:365])


def test_weights_with_class_token_load_without_and_on_another_grid(tmp_path: Path):
    arch = {"dim": 8, "depth": 2, "d_state": 2}
    source = Vim(arch)
    torch.save(source.state_dict(), tmp_path / "vim.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "vim.pth")}
    model = Vim(arch | {"grid": (24, 20)}, class_token=False, init_cfg=init_cfg)
    model.init_weights()
    expected = F.interpolate(
        source.positions.table.permute(0, 3, 1, 2), (24, 20), mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(model.positions.table, expected.permute(0, 2, 3, 1))
    assert torch.equal(model.stages[1].mixer.conv_bias, source.stages[1].mixer.conv_bias)


@pytest.mark.parametrize("double_bias", [True, False])
@pytest.mark.parametrize("raster", [True, False])
def test_plainmamba_is_the_released_one(double_bias: bool, raster: bool):
    torch.manual_seed(0)
    weights = leaves(plainmamba_shapes(8, 2, 1, (0,), d_state=2))
    reading = {"double_dt_bias": double_bias, "raster_parameters": raster}
    model = Loaded(PlainMamba, weights, reading=reading)
    image = torch.randn(1, 3, 48, 80, dtype=torch.float64)
    expected = plainmamba_forward(weights, image, 2, double_bias, raster)
    model.assert_same(model.backbone(image)[0][0].permute(1, 2, 0), expected)
    other = plainmamba_forward(weights, image, 2, not double_bias, raster)
    assert not torch.allclose(other, expected, rtol=1e-3)


def test_plainmamba_of_another_grid_and_convolution():
    torch.manual_seed(0)
    grid = (2, 3)
    shapes = plainmamba_shapes(8, 2, 2, (), d_state=2, conv_size=3, grid=grid)
    weights = leaves(shapes)
    for size in ((32, 48), (64, 32)):
        model = Loaded(PlainMamba, weights, grid=grid)
        image = torch.randn(1, 3, *size, dtype=torch.float64)
        expected = plainmamba_forward(weights, image, 2, grid=grid)
        model.assert_same(model.backbone(image)[0][0].permute(1, 2, 0), expected)
        for weight in weights.values():
            weight.grad = None
    with pytest.raises(CheckpointMismatchError, match="2 x 4 positions of patches, got 6"):
        convert_plainmamba(weights, grid=(2, 4))


def test_both_peculiarities_of_plainmamba_are_on_unless_asked_otherwise():
    arch = {"dim": 8, "depth": 1}
    assert PlainMamba(arch).settings() == {"reading": "released"}
    assert PlainMamba(arch, reading="paper").settings() == {"reading": "paper"}
    one = PlainMamba(arch, reading={"double_dt_bias": False})
    assert one.settings() == {"reading": {"double_dt_bias": False, "raster_parameters": True}}
    mixer = PlainMamba(arch).stages[0].mixer
    assert mixer.double_dt_bias
    assert mixer.raster_parameters
    mixer = PlainMamba(arch, reading="paper").stages[0].mixer
    assert not mixer.double_dt_bias
    assert not mixer.raster_parameters
