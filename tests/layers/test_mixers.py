"""Mixers: a layer equals its steps, one after another, in outputs and gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmquad.layers import QuadMixer, ScanMixer
from mmquad.scans import CrossScan, QuadScan, Scan

SCANS = {
    "cross": CrossScan(),
    "quad": QuadScan((1, -1)),
    "quad-released": QuadScan((1, 1), nested=False),
    "quad-sixteen-windows": QuadScan((1, 1), coarse_level=2),
    "quad-three-levels": QuadScan((1, 1), levels=3),
}


def make_mixer(scan: Scan) -> ScanMixer:
    torch.manual_seed(0)
    kind = QuadMixer if isinstance(scan, QuadScan) else ScanMixer
    mixer = kind(6, 8, d_state=2, dt_rank=3, scan=scan).double().eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def step_by_step(mixer: ScanMixer, x: Tensor) -> Tensor:
    height, width = x.shape[1:3]
    x = mixer.in_proj(x).permute(0, 3, 1, 2)
    x = F.conv2d(x, mixer.conv.weight, padding=1, groups=8)
    x = F.silu(x).permute(0, 2, 3, 1)
    chosen = (mixer.selector(x, mixer.scan),) if isinstance(mixer, QuadMixer) else ()
    ys = mixer.ssm(mixer.scan.to_sequences(x, *chosen))
    return mixer.out_proj(mixer.norm(mixer.scan.to_grid(ys, *chosen, height, width)))


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize("size", [(9, 12), (1, 5), (16, 8)])
def test_a_mixer_is_its_steps(size: tuple[int, int], scan: Scan) -> None:
    mixer = make_mixer(scan)
    x = torch.randn(4, *size, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(x.shape, dtype=torch.float64)
    inputs = (x, *mixer.parameters())
    actual, expected = mixer(x), step_by_step(mixer, x)
    torch.testing.assert_close(actual, expected)
    for mine, theirs in zip(
        torch.autograd.grad((actual * upstream).sum(), inputs),
        torch.autograd.grad((expected * upstream).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
