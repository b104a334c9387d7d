"""QuadMamba: sizes of the paper, shifts, any image size with differing choices, and DDP."""

import os
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cotangents import project, random_cotangents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmquad.backbones import QuadMamba
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS
from mmquad.layers import QuadMixer, ScanMixer
from mmquad.scans import CrossScan, QuadScan

# Table 7 gives 5.4, 10.3, 31.2 and 50.6 M; the exact numbers are those of the release.
CLASSIFIER_PARAMETERS = {
    "lite": 5_470_200,
    "lite-r2": 6_598_944,
    "tiny": 10_322_648,
    "small": 31_252_176,
    "base": 50_694_096,
}
BACKBONE_PARAMETERS = {
    "lite": 5_085_872,
    "tiny": 9_810_544,
    "small": 30_484_520,
    "base": 49_926_440,
}
SMALL = {"dim": 8, "depths": (2, 2, 1, 1), "ssm_ratio": 1}


class ForcedSelector(nn.Module):
    """Chooses window b % 4 for sample b."""

    def forward(self, x: Tensor, scan: QuadScan) -> Tensor:
        return torch.eye(4, device=x.device)[torch.arange(len(x), device=x.device) % 4]


def force_choices(model: QuadMamba) -> QuadMamba:
    for module in model.modules():
        if isinstance(module, QuadMixer):
            module.selector = ForcedSelector()
    return model


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("arch", QUADMAMBA_ARCHS)
def test_classifier_size_equals_the_paper(arch: str) -> None:
    """With the last output norm and a linear layer to 1000 classes."""
    with torch.device("meta"):
        backbone = QuadMamba(arch, out_indices=(3,))
        head = nn.Linear(backbone.out_channels[0], 1000)
    assert count(backbone) + count(head) == CLASSIFIER_PARAMETERS[arch]


@pytest.mark.parametrize("arch", BACKBONE_PARAMETERS)
def test_backbone_size_with_four_output_norms(arch: str) -> None:
    with torch.device("meta"):
        assert count(QuadMamba(arch)) == BACKBONE_PARAMETERS[arch]


def scans_of(arch: str, **settings) -> list[list[CrossScan | QuadScan]]:
    with torch.device("meta"):
        model = QuadMamba(arch, **settings)
    return [
        [module.scan for module in stage.modules() if isinstance(module, ScanMixer)]
        for stage in model.stages
    ]


def test_every_second_quad_block_is_shifted_in_turn() -> None:
    lite, tiny = scans_of("lite"), scans_of("tiny")
    assert [[scan.shift for scan in stage] for stage in lite[:2]] == [
        [(0, 0), (1, 1)],
        [(0, 0), (-1, -1)],
    ]
    assert [scan.shift for scan in tiny[1]] == [
        *[(0, 0), (-1, -1)],
        *[(0, 0), (1, -1)],
        *[(0, 0), (-1, 1)],
    ]
    assert lite[2:] == [[CrossScan()] * 2, [CrossScan()] * 2]


def test_named_quadtrees() -> None:
    paper, released = (scans_of("lite", quadtree=name)[0][1] for name in ("paper", "released"))
    assert paper == QuadScan((1, 1))
    assert released == QuadScan(
        (1, 1), nested=False, scores_follow_shift=False, shift_by_height=True
    )
    mixed = scans_of("lite", quadtree={"nested": True, "shift_by_height": True})[0][1]
    assert mixed == QuadScan((1, 1), shift_by_height=True)


def test_drop_path_grows_linearly() -> None:
    model = QuadMamba(SMALL, drop_path_rate=0.5)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"arch": "large"}, ValueError, "arch must be one of .*'tiny'.* got 'large'"),
        ({"quadtree": "official"}, ValueError, "quadtree must be one of .*'released'.*'official'"),
        ({"arch": SMALL | {"width": 8}}, ValueError, r"arch has unknown fields \['width'\]"),
        ({"quadtree": {"nest": True}}, ValueError, r"quadtree has unknown fields \['nest'\]"),
        ({"arch": {"dim": 8}}, TypeError, "depths"),
    ],
)
def test_wrong_settings(settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        QuadMamba(**settings)


@pytest.mark.parametrize("quadtree", ["paper", "released"])
@pytest.mark.parametrize("size", [(224, 224), (200, 336), (512, 683), (33, 47), (1, 1)])
def test_samples_choose_differently(size: tuple[int, int], quadtree: str) -> None:
    """Forward and backward; samples of a batch do not see each other's choice."""
    torch.manual_seed(0)
    batch = 2 if size[0] > 48 else 4
    model = force_choices(QuadMamba(SMALL, out_indices=(0, 1), quadtree=quadtree)).train()
    images = torch.randn(1, 3, *size).expand(batch, -1, -1, -1)
    outputs = model(images)
    project(outputs).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if min(size) > 8:
        assert not torch.equal(outputs[0][0], outputs[0][1]), "another choice, another output"
    if size[0] > 48:
        return
    # Sample 0 of the batch alone makes the same choice.
    for alone, together in zip(model(images[:1]), outputs, strict=True):
        torch.testing.assert_close(alone[0], together[0], rtol=1e-3, atol=1e-4)


def _gradients(model: nn.Module, images: Tensor, upstream: Sequence[Tensor]) -> list[Tensor]:
    """Of the mean over images of the inner products of outputs and ``upstream``."""
    torch.autograd.backward(model(images), [g / len(images) for g in upstream])
    return [p.grad.clone() for p in model.parameters()]


def _train_one_step(rank: int, world_size: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    state, images, upstream = torch.load(Path(folder, "inputs.pth"), weights_only=True)
    model = QuadMamba(SMALL).double().eval()
    model.load_state_dict(state)
    images, *upstream = (part.chunk(world_size)[rank] for part in (images, *upstream))
    # A gradient of other strides than its bucket is copied at every step; torch warns of it.
    warnings.simplefilter("error", UserWarning)
    gradients = _gradients(DistributedDataParallel(model), images, upstream)
    if rank == 0:
        torch.save(gradients, Path(folder, "gradients.pth"))
    dist.destroy_process_group()


def test_distributed_gradients_equal_those_of_one_process(tmp_path: Path) -> None:
    """Two gloo processes, two images each, without ``find_unused_parameters``.

    In float64: the gradient of a score's bias is a difference of nearly equal sums.
    """
    torch.manual_seed(0)
    # evaluation draws no noise; gradients are those of training
    model = QuadMamba(SMALL).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no gradient is next to nothing
            parameter.add_(0.3 * torch.randn_like(parameter))
    images = torch.randn(4, 3, 40, 56, dtype=torch.float64)
    upstream = random_cotangents(model(images))
    torch.save((model.state_dict(), images, upstream), tmp_path / "inputs.pth")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_train_one_step, (2, port, str(tmp_path)), nprocs=2)
    distributed = torch.load(tmp_path / "gradients.pth", weights_only=True)
    expected = _gradients(model, images, upstream)
    for (name, _), mine, theirs in zip(
        model.named_parameters(), distributed, expected, strict=True
    ):
        assert theirs.norm() > 1e-5, name
        assert (mine - theirs).norm() <= 1e-9 * theirs.norm(), name
