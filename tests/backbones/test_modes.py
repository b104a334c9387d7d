"""Mode x family: what docs/modes.md promises. A row there is a test here, a column is a family."""

import copy
import io
import re
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from cotangents import random_cotangents
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    IsotropicBackbone,
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
from mmquad.layers import MixerBlock, SelectiveSSM, exempt_parameters

PYRAMID = {"dim": 8, "depths": (2, 1), "ssm_ratio": 1}
LAYERS = {"dim": 8, "depth": 2, "grid": (2, 2), "d_state": 2}
HYBRID = {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2), "num_heads": (2,), "window": (2,)}
GROUPS = {"dims": (8, 12), "stem_dim": 4, "depths": (1, 1), "mlp_ratios": (2, 2)}
# The columns of the table, smallest models that have every part of their family.
FAMILIES = {
    "quadmamba": (QuadMamba, {"arch": PYRAMID | {"quad_stages": (0,)}}),
    "quadmamba-released": (QuadMamba, {"arch": PYRAMID, "quadtree": "released"}),
    "vmamba": (VMamba, {"arch": PYRAMID}),
    "vmamba-vanilla": (VMamba, {"arch": PYRAMID | {"gate": True, "overlap": False}}),
    "localvmamba": (LocalVMamba, {"arch": PYRAMID | {"d_state": 2}}),
    "vim": (Vim, {"arch": LAYERS, "out_indices": (0, 1)}),
    "localvim": (LocalVim, {"arch": LAYERS, "out_indices": (0, 1)}),
    "plainmamba": (PlainMamba, {"arch": LAYERS | {"conv_layers": (1,)}, "out_indices": (0, 1)}),
    "mambavision": (MambaVision, {"arch": HYBRID}),
    "efficientvmamba": (EfficientVMamba, {"arch": {"dim": 8, "depths": (1, 1), "scan_stages": 1}}),
    "groupmamba": (GroupMamba, {"arch": GROUPS}),
    "spatialmamba": (SpatialMamba, {"arch": {"dim": 8, "depths": (2, 1)}}),
}
WIDTHS = {torch.float16: 1e-2, torch.bfloat16: 6e-2}  # how far from float32, of the norm
WITH_BATCH_NORMS = (
    "efficientvmamba",
    "groupmamba",
    "mambavision",
    "plainmamba",
    "spatialmamba",
)
each_family = pytest.mark.parametrize("family", FAMILIES)


def build(family: str, **settings) -> VisionBackbone:
    torch.manual_seed(0)
    kind, arguments = FAMILIES[family]
    return kind(**arguments, **settings).eval()


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 33, 40, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module, x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    model.zero_grad()
    maps = model(x)
    torch.autograd.backward(maps, random_cotangents(maps))
    return maps, {name: p.grad for name, p in model.named_parameters()}


def distance(mine: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm."""
    mine, theirs = mine.detach().double(), theirs.detach().double()
    return float((mine - theirs).norm() / theirs.norm())


@each_family
@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("with_cp", [False, True])
def test_16_bit_models(family: str, dtype: torch.dtype, with_cp: bool) -> None:
    """``half()`` and ``to(torch.bfloat16)``, forward and backward."""
    model = build(family)
    expected, wide = gradients(model, image())
    narrow = build(family, with_cp=with_cp).to(dtype)
    maps, grads = gradients(narrow, image().to(dtype))
    for mine, theirs in zip(maps, expected, strict=True):
        assert mine.dtype == dtype
        assert distance(mine, theirs) < WIDTHS[dtype]
    together = [torch.cat([g.double().flatten() for g in each.values()]) for each in (grads, wide)]
    assert {g.dtype for g in grads.values()} == {dtype}
    assert distance(*together) < 2 * WIDTHS[dtype]


@each_family
@pytest.mark.parametrize("dtype", WIDTHS)
def test_16_bit_classifiers(family: str, dtype: torch.dtype) -> None:
    """mmpretrain's ``ImageClassifier`` around them: prediction, and one step of training."""
    registry = pytest.importorskip("mmpretrain.registry")
    structures = pytest.importorskip("mmpretrain.structures")
    kind, arguments = FAMILIES[family]
    torch.manual_seed(0)
    # Other tests of the session may have left another library as the default.
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = registry.MODELS.build(
            {
                "type": "ImageClassifier",
                "backbone": {
                    "type": f"mmquad.{kind.__name__}",
                    **arguments,
                    "out_indices": (build(family).num_stages - 1,),
                },
                "neck": {"type": "GlobalAveragePooling"},
                "head": {
                    "type": "LinearClsHead",
                    "num_classes": 5,
                    "in_channels": build(family).out_channels[-1],
                },
            }
        ).eval()
    samples = [structures.DataSample().set_gt_label(i) for i in range(2)]
    expected = model(image(), samples, mode="loss")["loss"]
    model = model.to(dtype)
    scores = [s.pred_score for s in model(image().to(dtype), samples, mode="predict")]
    assert all(s.isfinite().all() and abs(float(s.sum()) - 1) < 1e-2 for s in scores)
    loss = model(image().to(dtype), samples, mode="loss")["loss"]
    loss.backward()
    assert distance(loss, expected) < WIDTHS[dtype]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@each_family
def test_state_parameters_of_16_bit_models_are_not_rounded_again(family: str) -> None:
    """A = -exp(A_log) and what the scan is given of dt_bias and D are in float32."""
    ssm = next(m for m in build(family).bfloat16().modules() if isinstance(m, SelectiveSSM))
    with torch.no_grad():
        ssm.A_log.uniform_(-2, 2)
    assert torch.equal(ssm.state_matrix(), -ssm.A_log.float().exp())
    assert not torch.equal(ssm.state_matrix(), (-ssm.A_log.exp()).float())


@pytest.mark.parametrize(
    "family", [name for name, (kind, _) in FAMILIES.items() if issubclass(kind, IsotropicBackbone)]
)
@pytest.mark.parametrize("mode", ["bfloat16", "autocast"])
def test_residual_streams_of_isotropic_families_stay_float32(family: str, mode: str) -> None:
    model = build(family)
    dtypes = []
    for part in [m for m in model.modules() if isinstance(m, MixerBlock)] + [model.norm1]:
        part.register_forward_pre_hook(lambda _, inputs: dtypes.append(inputs[0].dtype))
    if mode == "bfloat16":
        model.bfloat16()(image().bfloat16())
    else:
        with torch.autocast("cpu", torch.bfloat16):
            model(image())
    assert dtypes == [torch.float32] * 3


@each_family
def test_autocast_bfloat16(family: str) -> None:
    model = build(family)
    expected, wide = gradients(model, image())
    with torch.autocast("cpu", torch.bfloat16):
        maps, grads = gradients(model, image())
    for mine, theirs in zip(maps, expected, strict=True):
        assert distance(mine, theirs) < WIDTHS[torch.bfloat16]
    assert all(g.dtype == torch.float32 for g in grads.values())
    together = [torch.cat([g.double().flatten() for g in each.values()]) for each in (grads, wide)]
    assert distance(*together) < 2 * WIDTHS[torch.bfloat16]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@each_family
@pytest.mark.parametrize("by_block", [False, True])
def test_fsdp2_bfloat16(family: str, by_block: bool, mesh) -> None:
    """Parameters are kept in float32 and computed with in bfloat16."""
    expected = build(family)(image())
    model = build(family)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for block in [m for m in model.modules() if by_block and hasattr(m, "mixer")]:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    maps, grads = gradients(model, image())
    for mine, theirs in zip(maps, expected, strict=True):
        assert distance(mine, theirs) < WIDTHS[torch.bfloat16]
    assert all(g is not None and g.dtype == torch.float32 for g in grads.values())


@each_family
@pytest.mark.parametrize("by_block", [False, True])
def test_fsdp1_bfloat16(family: str, by_block: bool, mesh) -> None:
    """``FullyShardedDataParallel``, which mmengine's FSDPStrategy uses."""
    expected = build(family)(image())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # batch norms are wrapped apart, one process shards nothing
        model = FullyShardedDataParallel(
            build(family),
            device_id=torch.device("cpu"),
            mixed_precision=MixedPrecision(param_dtype=torch.bfloat16),
            auto_wrap_policy=ModuleWrapPolicy({MixerBlock}) if by_block else None,
            use_orig_params=True,
        )
    maps, grads = gradients(model, image())
    for mine, theirs in zip(maps, expected, strict=True):
        assert distance(mine, theirs) < WIDTHS[torch.bfloat16]
    assert all(g is not None and g.dtype == torch.float32 for g in grads.values())


@each_family
def test_ddp(family: str, mesh, recwarn: pytest.WarningsRecorder) -> None:
    """Every parameter takes part, and its gradient fits the bucket: nothing is copied."""
    _, expected = gradients(build(family), image())
    model = DistributedDataParallel(build(family), find_unused_parameters=False)
    for _ in range(2):  # a second step, which fails if the first left a gradient behind
        _, grads = gradients(model, image())
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name.removeprefix("module.")], msg=name)
    assert [str(w.message) for w in recwarn if "strides" in str(w.message)] == []


@each_family
def test_exemptions_from_decay_under_fsdp2(family: str, mesh) -> None:
    """Parameters are replaced, with all attributes they had; the layers still know."""
    model = build(family)
    before = set(exempt_parameters(model))
    fully_shard(model, mesh=mesh)
    assert set(exempt_parameters(model)) == before != set()


@each_family
def test_batch_norms_under_fsdp2_count_and_average_in_float32(family: str, mesh) -> None:
    norms = [m for m in build(family).modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (family in WITH_BATCH_NORMS)
    model, plain = build(family).train(), build(family).train()
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    for _ in range(2):
        model(image()), plain(image())
    for (name, mine), theirs in zip(model.named_buffers(), plain.buffers(), strict=True):
        assert mine.dtype == theirs.dtype, name
        assert distance(mine, theirs) < WIDTHS[torch.bfloat16], name


@each_family
def test_checkpointing(family: str) -> None:
    expected, wide = gradients(build(family, drop_path_rate=0.2), image())
    maps, grads = gradients(build(family, drop_path_rate=0.2, with_cp=True), image())
    for mine, theirs in zip([*maps, *grads.values()], [*expected, *wide.values()], strict=True):
        torch.testing.assert_close(mine, theirs)


@each_family
def test_channels_last_images(family: str) -> None:
    model = build(family)
    maps = model.to(memory_format=torch.channels_last)(
        image().to(memory_format=torch.channels_last)
    )
    for mine, theirs in zip(maps, build(family)(image()), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.is_contiguous()


@each_family
def test_no_images(family: str) -> None:
    model = build(family)
    maps, grads = gradients(model, image(0))
    assert [tuple(y.shape[1:]) for y in maps] == [tuple(y.shape[1:]) for y in model(image())]
    assert all(g is not None and not g.any() for g in grads.values())


@each_family
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies(family: str, how: str) -> None:
    model = build(family)
    expected = model(image())
    if how == "deepcopy":
        twin = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(y, z) for y, z in zip(twin(image()), expected, strict=True))


class Forwarding(nn.Module):
    """As adapters wrap layers: it has a layer, calls it, and has none of its attributes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layer(*inputs)


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrapped_layers(family: str, dtype: torch.dtype) -> None:
    """LoRA and its like: every convolution and linear layer replaced by one that calls it."""
    model = build(family).to(dtype)
    expected = model(image().to(dtype))
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d | nn.Linear):
                setattr(parent, name, Forwarding(child))
    assert any(isinstance(m, Forwarding) for m in model.stem.modules())
    maps = model(image().to(dtype))
    assert all(torch.equal(y, z) for y, z in zip(maps, expected, strict=True))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 2


@each_family
def test_parametrized_weights(family: str) -> None:
    """``torch.nn.utils.parametrize`` on every parameter."""
    model = build(family)
    expected = model(image())
    for module in list(model.modules()):
        for name, _ in list(module.named_parameters(recurse=False)):
            parametrize.register_parametrization(module, name, Doubled())
    assert not any(isinstance(m, Doubled) for m in build(family).modules())
    for mine, theirs in zip(model(image()), expected, strict=True):
        assert torch.equal(mine, theirs)
    maps, grads = gradients(model, image())
    assert len(maps) == len(expected)
    assert all(g is not None for g in grads.values())


@each_family
def test_torch_func(family: str) -> None:
    """``functional_call``, ``grad`` and ``vmap``: gradients per sample equal those one by one."""
    model, images = build(family).double(), image().double()
    parameters = dict(model.named_parameters())
    upstream = [y[0] for y in random_cotangents(model(images[:1]))]

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        maps = torch.func.functional_call(model, parameters, (image[None],))
        return sum((y[0] * u).sum() for y, u in zip(maps, upstream, strict=True))

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, images)
    for i, each in enumerate(images):
        single = torch.func.grad(loss)(parameters, each)
        expected = torch.autograd.grad(
            loss(parameters, each), list(parameters.values()), materialize_grads=True
        )
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(single[name], gradient, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(per_sample[name][i], gradient, rtol=1e-8, atol=1e-10)


@each_family
def test_forward_mode_is_refused(family: str) -> None:
    """``torch.func.jvp``, dual numbers: in one line, where it was wrong in silence."""
    model, x = build(family), image(1)
    one_line = r"^mmquad: \w+ has no forward-mode derivative [^\n]*$"
    with pytest.raises(NotImplementedError, match=one_line):
        torch.func.jvp(lambda x: model(x)[-1], (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=one_line):
        model(forward_ad.make_dual(x, x))


@each_family
def test_second_derivatives_are_refused(family: str) -> None:
    """``create_graph=True`` and a derivative of the gradient: in one line."""
    model, x = build(family), image(1).requires_grad_()
    maps = model(x)
    (gradient,) = torch.autograd.grad(maps, x, random_cotangents(maps), create_graph=True)
    one_line = r"^mmquad: second derivatives end at \w+_backward; [^\n]*$"
    with pytest.raises(NotImplementedError, match=one_line):
        gradient.backward(torch.ones_like(gradient))


def test_the_page_has_every_mode_and_family() -> None:
    page = (Path(__file__).parents[2] / "docs" / "modes.md").read_text()
    tests = set()
    for file in Path(__file__).parent.glob("test_*modes.py"):
        tests |= set(re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", page)) == tests - {
        "test_the_page_has_every_mode_and_family"
    }
    families = list(dict.fromkeys(kind.__name__ for kind, _ in FAMILIES.values()))
    assert f"| mode | {' | '.join(families)} | test |" in page
