"""What every backbone of this package promises. Add a new one to ``BACKBONES``."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from cotangents import project
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

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
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.layers import ConvBlock, DropPath, InvertedResidual

Sizes = list[tuple[int, int]]


def pyramid(height: int, width: int) -> Sizes:
    """Strides 4, 8, 16, 32, every size rounded up."""
    return [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]


def patch_pyramid(height: int, width: int) -> Sizes:
    """The same, but patches of 4 x 4 leave out what fills none."""
    sizes = [(max(height // 4, 1), max(width // 4, 1))]
    for _ in range(3):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def one_stride(height: int, width: int) -> Sizes:
    """Stride 16, rounded up, after each of four layers."""
    return 4 * [(-(-height // 16), -(-width // 16))]


@dataclass(frozen=True)
class Case:
    """A small instance of a backbone with four stages, or layers, all of them returned."""

    build: Callable[..., VisionBackbone]
    settings: dict
    channels: tuple[int, ...]
    sizes: Callable[[int, int], Sizes]

    @property
    def type(self) -> str:
        return self.build.__name__


SMALL = {"dim": 8, "depths": (2, 2, 1, 1), "ssm_ratio": 1}
STATES = {"dim": 8, "depths": (2, 1, 1, 1), "ssm_ratio": 2, "d_state": 2, "quad_stages": (0, 3)}
VANILLA = {"dim": 8, "depths": (1, 1, 2, 1), "ssm_ratio": 2, "d_state": 3}
VANILLA |= {"mlp_ratio": 0, "gate": True, "overlap": False, "conv_bias": True}
LOCAL = {"dim": 8, "depths": (1, 1, 1, 1), "d_state": 2}
HYBRID = {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2, 1), "num_heads": (2, 4), "window": (3, 2)}
HYBRID |= {"layer_scale": 0.5}
ATROUS = {"dim": 8, "depths": (1, 2, 1, 1), "d_state": 3, "scan_stages": 3}
GROUPS = {"dims": (8, 16, 32, 64), "stem_dim": 4, "depths": (1, 2, 1, 1)}
LAYERS = {"dim": 12, "depth": 4, "grid": (3, 3), "d_state": 3}
PYRAMID_CHANNELS, LAYER_CHANNELS = (8, 16, 32, 64), (12, 12, 12, 12)
ALL = (0, 1, 2, 3)
BACKBONES = {
    "quadmamba": Case(QuadMamba, {"arch": SMALL}, PYRAMID_CHANNELS, pyramid),
    "quadmamba-three-level": Case(
        QuadMamba,
        {"arch": SMALL, "quadtree": {"levels": 3, "top_k": 2}},
        PYRAMID_CHANNELS,
        pyramid,
    ),
    "quadmamba-released": Case(
        QuadMamba, {"arch": STATES, "quadtree": "released"}, PYRAMID_CHANNELS, pyramid
    ),
    "vmamba": Case(VMamba, {"arch": SMALL}, PYRAMID_CHANNELS, pyramid),
    "vmamba-vanilla": Case(VMamba, {"arch": VANILLA}, PYRAMID_CHANNELS, patch_pyramid),
    "localvmamba": Case(LocalVMamba, {"arch": LOCAL}, PYRAMID_CHANNELS, patch_pyramid),
    "mambavision": Case(MambaVision, {"arch": HYBRID}, PYRAMID_CHANNELS, pyramid),
    "efficientvmamba": Case(EfficientVMamba, {"arch": ATROUS}, PYRAMID_CHANNELS, patch_pyramid),
    "groupmamba": Case(GroupMamba, {"arch": GROUPS}, PYRAMID_CHANNELS, pyramid),
    "spatialmamba": Case(
        SpatialMamba, {"arch": {"dim": 8, "depths": (1, 2, 1, 1)}}, PYRAMID_CHANNELS, pyramid
    ),
    "vim": Case(Vim, {"arch": LAYERS, "out_indices": ALL}, LAYER_CHANNELS, one_stride),
    "localvim": Case(LocalVim, {"arch": LAYERS, "out_indices": ALL}, LAYER_CHANNELS, one_stride),
    "plainmamba": Case(
        PlainMamba,
        {"arch": LAYERS | {"num_convs": 1, "conv_layers": (1,)}, "out_indices": ALL},
        LAYER_CHANNELS,
        one_stride,
    ),
}
SIZES = [(33, 47), (1, 1), (5, 300), (64, 64)]


@pytest.fixture(params=BACKBONES.values(), ids=BACKBONES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return request.param


def build(case: Case, **settings) -> VisionBackbone:
    return case.build(**case.settings | settings)


def equal_maps(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(mine, theirs, strict=True))


def loss_and_gradients(model: nn.Module, image: Tensor) -> list[Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    outputs = model(image)
    project(outputs).backward()
    return [*outputs, *(p.grad for p in model.parameters())]


def test_no_images_give_no_maps(case: Case) -> None:
    maps = build(case)(torch.randn(0, 3, 64, 64))
    shapes = [(0, c, h, w) for c, (h, w) in zip(case.channels, case.sizes(64, 64), strict=True)]
    assert [tuple(y.shape) for y in maps] == shapes
    project(maps).backward()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_maps_of_any_image(case: Case, height: int, width: int) -> None:
    model = build(case).train()
    image = torch.randn(2, 3, height, width, requires_grad=True)
    outputs = model(image)
    assert isinstance(outputs, tuple)
    assert model.out_channels == case.channels
    assert [tuple(y.shape[:2]) for y in outputs] == [(2, c) for c in case.channels]
    assert [tuple(y.shape[2:]) for y in outputs] == case.sizes(height, width)
    assert all(y.is_contiguous() and y.isfinite().all() for y in outputs)
    project(outputs).backward()
    assert image.grad.isfinite().all()


def test_no_padding_to_a_multiple_of_anything(case: Case) -> None:
    """An image of 33 x 47 is not treated as one of 64 x 64 with zeros."""
    model = build(case).eval()
    image = torch.randn(1, 3, 33, 47)
    padded = nn.functional.pad(image, (0, 17, 0, 31))
    last = model(image)[3]
    part = model(padded)[3][..., : last.shape[2], : last.shape[3]]
    assert not torch.allclose(last, part, atol=1e-3)


@pytest.mark.parametrize("out_indices", [(0,), (-1,), (0, -1), (-3, -2)])
def test_out_indices(case: Case, out_indices: tuple[int, ...]) -> None:
    full = build(case).eval()
    part = build(case, out_indices=out_indices).eval()
    part.load_state_dict({k: v for k, v in full.state_dict().items() if k in part.state_dict()})
    chosen = [i % 4 for i in out_indices]
    assert part.out_indices == tuple(chosen)
    assert part.out_channels == tuple(case.channels[i] for i in chosen)
    image = torch.randn(1, 3, 33, 47)
    expected = tuple(full(image)[i] for i in chosen)
    assert equal_maps(part(image), expected)
    assert len(part.stages) == max(chosen) + 1, "stages nobody reads are not built"


@pytest.mark.parametrize("out_indices", [(4,), (-5,), (), (1, 0), (1, 1), (3, -1)])
def test_invalid_out_indices(case: Case, out_indices: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"out_indices must name stages in \[-4, 3\]"):
        build(case, out_indices=out_indices)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1,)])
def test_every_parameter_gets_a_gradient(case: Case, out_indices: tuple[int, ...]) -> None:
    """Needed by distributed training with ``find_unused_parameters=False``."""
    model = build(case, out_indices=out_indices).train()
    project(model(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("size", [(33, 47), (1, 1)])
def test_gradients_lie_in_memory_as_their_parameters(
    case: Case, size: tuple[int, int], in_channels: int
) -> None:
    """Otherwise DistributedDataParallel warns, and copies them at every step."""
    model = build(case, in_channels=in_channels).train()
    project(model(torch.randn(2, in_channels, *size))).backward()
    assert [n for n, p in model.named_parameters() if p.grad.stride() != p.stride()] == []


@pytest.mark.parametrize("frozen_stages", range(-1, 5))
def test_frozen_stages(case: Case, frozen_stages: int) -> None:
    model = build(case, frozen_stages=frozen_stages, drop_path_rate=0.1).train()
    parts = {name: 0 for name, _ in model.named_children()}
    del parts["stages"], parts["downsamples"]
    for i in range(4):
        parts |= {f"stages.{i}": i + 1, f"norm{i}": i + 1}
    for i in range(len(model.downsamples)):
        parts[f"downsamples.{i}"] = i + 2
    assert len(model.downsamples) in (0, 3)
    for name, level in parts.items():
        module = model.get_submodule(name)
        frozen = level <= frozen_stages
        assert module.training != frozen, name
        assert all(p.requires_grad != frozen for p in module.parameters()), name
    trainable = [p for p in model.parameters() if p.requires_grad]
    if trainable:
        project(model(torch.randn(2, 3, 32, 32))).backward()  # batch norms want two values
    assert all((p.grad is None) != p.requires_grad for p in model.parameters())
    assert not model.eval().training


@pytest.mark.parametrize("frozen_stages", [-2, 5])
def test_invalid_frozen_stages(case: Case, frozen_stages: int) -> None:
    with pytest.raises(ValueError, match=r"frozen_stages must be in \[-1, 4\]"):
        build(case, frozen_stages=frozen_stages)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_norm_eval(case: Case, norm_eval: bool) -> None:
    model = build(case, norm_eval=norm_eval)
    model.stages[1].add_module("norm", nn.SyncBatchNorm(16))
    model.stages[2].add_module("norm", nn.BatchNorm2d(32))
    model.train()
    assert model.stages[1].norm.training != norm_eval
    assert model.stages[2].norm.training != norm_eval
    assert model.stages[2].training


@pytest.mark.parametrize("frozen_stages", [-1, 1])
def test_checkpointing_changes_nothing(case: Case, frozen_stages: int) -> None:
    """Outputs and gradients in training mode: the recomputation repeats the random choices."""
    settings = {"drop_path_rate": 0.3, "frozen_stages": frozen_stages}
    plain, recomputed = (build(case, with_cp=with_cp, **settings) for with_cp in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 33, 47)
    pairs = zip(
        loss_and_gradients(plain.train(), image),
        loss_and_gradients(recomputed.train(), image),
        strict=True,
    )
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs)


def test_checkpointing_recomputes_blocks(case: Case) -> None:
    model = build(case, with_cp=True).train()
    calls = []
    block = next(m for m in model.stages[2].modules() if hasattr(m, "mixer"))
    block.register_forward_pre_hook(lambda *_: calls.append(1))
    project(model(torch.randn(2, 3, 32, 32))).backward()
    assert len(calls) == 2


@pytest.mark.parametrize("out_indices", [(3,), (1,)])
def test_drop_path_grows_linearly_over_the_whole_network(case: Case, out_indices: tuple) -> None:
    """From 0 in the first block to the given rate in the last, whether or not that is built."""
    model = build(case, drop_path_rate=0.3, out_indices=out_indices)
    arch = case.settings["arch"]
    depths = arch.get("depths", (1, 1, 1, 1))
    step = 0.3 / (sum(depths) - 1)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    built = sum(depths[: max(out_indices) + 1])
    assert rates == pytest.approx([i * step for i in range(built)])
    blocks = [
        m
        for m in model.modules()
        if hasattr(m, "mixer") or isinstance(m, ConvBlock | InvertedResidual)
    ]
    assert len(blocks) == built
    assert all(isinstance(block.drop_path, DropPath) for block in blocks)


def test_evaluation_is_deterministic_and_batch_invariant(case: Case) -> None:
    model = build(case, drop_path_rate=0.5).eval()
    images = torch.randn(3, 3, 33, 47)
    together, again = model(images), model(images)
    assert equal_maps(together, again)
    for b in range(3):
        for alone, batched in zip(model(images[b : b + 1]), together, strict=True):
            torch.testing.assert_close(alone[0], batched[b], rtol=1e-4, atol=1e-5)


def test_deepcopy_is_independent(case: Case) -> None:
    model = build(case).eval()
    image = torch.randn(1, 3, 33, 47)
    model(image)
    twin = copy.deepcopy(model)
    before = tuple(y.clone() for y in model(image))
    assert equal_maps(twin(image), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert equal_maps(model(image), before)


def test_state_dict_round_trip(case: Case, tmp_path: Path) -> None:
    model, other = build(case).eval(), build(case).eval()
    image = torch.randn(1, 3, 33, 47)
    assert not torch.equal(model(image)[3], other(image)[3])
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True), strict=True)
    assert equal_maps(model(image), other(image))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(list(model.buffers())) == 3 * len(norms), "tables are functions of the size"


def test_averaging_hooks_follow_the_weights(case: Case) -> None:
    """What mmengine's EMAHook does: a copy, averaged step by step, that is then evaluated."""
    model = build(case)
    average = ExponentialMovingAverage(model, momentum=0.25)
    before = copy.deepcopy(model.state_dict())
    average.update_parameters(model)  # the first one copies
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update_parameters(model)
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.25)
    assert all(y.isfinite().all() for y in average.module.eval()(torch.randn(1, 3, 33, 47)))


def test_autocast_is_finite_on_long_sequences(case: Case) -> None:
    """Thousands of tokens of large values."""
    model = build(case).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(30 * torch.randn(1, 3, 128, 1024))
    assert all(y.isfinite().all() for y in outputs)


def test_autocast(case: Case) -> None:
    model = build(case).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.randn(2, 3, 33, 47))
    project(y.float() for y in outputs).backward()
    assert all(y.isfinite().all() for y in outputs)
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in model.parameters())


def test_autocast_stays_close_to_float32(case: Case) -> None:
    model = build(case).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(image)
    for mine, theirs in zip(outputs, expected, strict=True):
        assert (mine.float() - theirs).norm() < 0.1 * theirs.norm()


def test_builds_on_the_meta_device(case: Case) -> None:
    with torch.device("meta"):
        model = build(case, drop_path_rate=0.1)
    assert all(p.is_meta for p in model.parameters())
    outputs = model.eval()(torch.empty(1, 3, 33, 47, device="meta"))
    assert [tuple(y.shape[2:]) for y in outputs] == case.sizes(33, 47)


def test_compiles_without_graph_breaks(case: Case) -> None:
    torch._dynamo.reset()
    model = build(case, out_indices=(0,)).eval()
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(image)
        torch.testing.assert_close(compiled[0], model(image)[0], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_unknown_arguments(case: Case) -> None:
    with pytest.raises(TypeError, match="drop_path"):
        build(case, drop_path=0.1)


def test_built_by_name_from_every_library() -> None:
    """No ``custom_imports``, nothing of this package imported by the user."""
    libraries = [name for name in ("mmdet", "mmseg", "mmpretrain") if find_spec(name)]
    if not libraries:
        pytest.skip("none of mmdet, mmseg and mmpretrain is installed")
    configs = [{"type": f"mmquad.{case.type}", **case.settings} for case in BACKBONES.values()]
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for library in {libraries}:\n"
        "    import_module(f'{library}.utils').register_all_modules()\n"
        "assert 'mmquad' not in sys.modules\n"
        f"for library in {libraries}:\n"
        f"    for config in {configs}:\n"
        "        model = import_module(f'{library}.registry').MODELS.build(config)\n"
        "        print(library, type(model).__name__, model.out_channels)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    expected = [
        f"{name} {case.type} {case.channels}" for name in libraries for case in BACKBONES.values()
    ]
    assert done.stdout.splitlines()[-len(expected) :] == expected


@pytest.fixture
def saved(case: Case, tmp_path: Path) -> tuple[VisionBackbone, Path]:
    """A model, and its weights in the file of a detector: with prefix and with other parts."""
    model = build(case)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": state | {"neck.weight": torch.zeros(1)}, "meta": {}}, path)
    return model, path


def pretrained(path: Path, prefix: str | None = "backbone.") -> dict:
    return {"type": "Pretrained", "checkpoint": str(path), "prefix": prefix}


@pytest.mark.parametrize("prefix", ["backbone.", "backbone"])
def test_pretrained(case: Case, saved: tuple, prefix: str) -> None:
    model = build(case, init_cfg=pretrained(saved[1], prefix))
    model.init_weights()
    for name, value in saved[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_pretrained_classifier_in_a_detector(case: Case, saved: tuple, tmp_path: Path) -> None:
    """A classifier has the last norm only; the norms of other stages keep their initial values."""
    state = saved[0].state_dict()
    lacking = {k: v for k, v in state.items() if not k.startswith(("norm0", "norm1", "norm2"))}
    torch.save(lacking, tmp_path / "classifier.pth")
    model = build(case, init_cfg=pretrained(tmp_path / "classifier.pth", None))
    if case.build is GroupMamba:  # whose stages read normed maps: all classifiers have the norms
        with pytest.raises(CheckpointMismatchError, match=r"(?s)missing .*norm0\.weight"):
            model.init_weights()
        return
    model.init_weights()
    assert model.norm0.weight.eq(1).all()
    assert torch.equal(model.norm3.weight, state["norm3.weight"])


def test_pretrained_without_its_last_norm(case: Case, saved: tuple, tmp_path: Path) -> None:
    """Every classifier has it, so a file without it is no whole classifier."""
    state = {k: v for k, v in saved[0].state_dict().items() if not k.startswith("norm3")}
    torch.save(state, tmp_path / "headless.pth")
    model = build(case, init_cfg=pretrained(tmp_path / "headless.pth", None))
    with pytest.raises(CheckpointMismatchError, match=r"(?s)missing .*norm3\.weight"):
        model.init_weights()


def test_pretrained_with_fewer_stages(case: Case, saved: tuple) -> None:
    model = build(case, out_indices=(1,), init_cfg=pretrained(saved[1]))
    model.init_weights()
    assert torch.equal(model.norm1.weight, saved[0].norm1.weight)


DEFECTS = {
    "missing": (r"missing from the checkpoint \(1\):\n +{name}", "backbone."),
    "unexpected": (r"unexpected in the checkpoint \(1\):\n +stages\.0\.9\.x", "backbone."),
    "shape": (r"{name}: model {shape}, checkpoint \(3, 2, 1\)", "backbone."),
    "no prefix": (r"set prefix='backbone\.' in init_cfg", None),
    "wrong prefix": (r"no entry starts with prefix 'model\.'", "model"),
}


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("defect", DEFECTS)
def test_pretrained_defects(case: Case, saved: tuple, defect: str, as_list: bool) -> None:
    message, prefix = DEFECTS[defect]
    name, value = next(
        (k, v) for k, v in saved[0].state_dict().items() if re.match(r"stages\.[12]\..*in_proj", k)
    )
    message = message.replace("{name}", re.escape(name))
    message = message.replace("{shape}", re.escape(str(tuple(value.shape))))
    content = torch.load(saved[1], weights_only=True)
    if defect == "missing":
        del content["state_dict"][f"backbone.{name}"]
    elif defect == "shape":
        content["state_dict"][f"backbone.{name}"] = torch.zeros(3, 2, 1)
    elif defect == "unexpected":
        content["state_dict"]["backbone.stages.0.9.x"] = torch.zeros(1)
    torch.save(content, saved[1])
    init_cfg = pretrained(saved[1], prefix)
    model = build(case, init_cfg=[init_cfg] if as_list else init_cfg)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointMismatchError, match=message):
        model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
