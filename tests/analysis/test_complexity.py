"""FLOPs under the papers' protocol."""

import pytest
import torch
from cpu_backends import cpu_backends
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmquad.analysis.complexity import count_complexity, scan_handles
from mmquad.backbones import PlainMamba, QuadMamba, Vim, VMamba
from mmquad.layers import BidirectionalMixer
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import use_backend
from mmquad.ops.selective_scan import BACKENDS

# Multiply-adds and scan operations at 224 x 224 of the full classifiers, in G, of the release.
PUBLISHED = {
    "lite": (0.79, 0.014),
    "lite-r2": (1.08, 0.027),
    "tiny": (2.02, 0.026),
    "small": (5.40, 0.072),
    "base": (9.19, 0.132),
}


class Classifier(nn.Module):
    def __init__(self, arch: str, quadtree: str = "released") -> None:
        super().__init__()
        self.backbone = QuadMamba(arch, out_indices=(3,), quadtree=quadtree)
        self.head = nn.Linear(self.backbone.out_channels[0], 1000)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image)[0].mean((2, 3)))


def make_classifier(*arguments: str) -> Classifier:
    with torch.device("meta"):
        return Classifier(*arguments)


@pytest.mark.parametrize("arch", PUBLISHED)
def test_classifiers_cost_what_the_release_costs(arch: str) -> None:
    measured = count_complexity(make_classifier(arch), (1, 3, 224, 224))
    macs, scan = PUBLISHED[arch]
    assert measured.total_macs / 1e9 == pytest.approx(macs, rel=0.01)
    # Given to one thousandth of a G.
    assert measured.scan_ops / 1e9 == pytest.approx(scan, abs=0.0006)


def test_the_papers_context_half_costs_almost_nothing() -> None:
    shape = (1, 3, 224, 224)
    paper = count_complexity(make_classifier("tiny", "paper"), shape)
    released = count_complexity(make_classifier("tiny", "released"), shape)
    assert paper.params == released.params
    assert released.total < paper.total < 1.01 * released.total


def test_scan_operations_follow_the_formula() -> None:
    ssm = SelectiveSSM(6, d_state=4, dt_rank=2, directions=2)
    measured = count_complexity(ssm, (3, 10, 2, 6))
    tokens, channels = 3 * 10, 2 * 6
    assert measured.scan_ops == 9 * tokens * channels * 4 + tokens * channels
    projections = tokens * 2 * (6 * (2 + 2 * 4) + 2 * 6)
    assert measured.total_macs == projections
    assert measured.total == measured.scan_ops + projections


def test_kinds() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, groups=1), nn.Flatten(), nn.Linear(36, 5))
    measured = count_complexity(model, (2, 3, 7, 7))
    assert measured.macs == {"convolution": 2 * 9 * 4 * 27, "matmul": 2 * 36 * 5}
    assert (measured.scan_ops, measured.params) == (0, 4 * 27 + 4 + 36 * 5 + 5)


@pytest.mark.parametrize("backend", cpu_backends(BACKENDS))
def test_backend_and_device_do_not_change_the_figure(backend: str) -> None:
    model = QuadMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1})
    expected = count_complexity(model, (1, 3, 33, 47))
    with use_backend(backend):
        assert count_complexity(model, (1, 3, 33, 47), device="cpu") == expected


def test_the_model_is_left_alone() -> None:
    model = QuadMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1}).train()
    count_complexity(model, (1, 3, 32, 32))
    assert model.training
    assert not any(p.is_meta for p in model.parameters())


def test_cost_grows_linearly_with_the_image() -> None:
    model = make_classifier("lite")
    small, large = (count_complexity(model, (1, 3, side, side)) for side in (512, 1024))
    assert large.scan_ops == 4 * small.scan_ops
    assert large.total_macs == pytest.approx(4 * small.total_macs, rel=0.01)


def test_summary_line() -> None:
    text = str(count_complexity(nn.Linear(1000, 1000, bias=False), (10, 1000)))
    assert text == "0.01 G (multiply-adds 0.010 G, scan 0.000 G), 1.00 M parameters"


@pytest.mark.parametrize("kind", [VMamba, Vim, PlainMamba])
def test_scans_cost_the_same_in_torchs_counter_and_mmengines(kind: type) -> None:
    """Through the formulas registered with the operators, and through handles made from ours."""
    if kind is VMamba:
        model = kind({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 2}).eval()
    else:
        model = kind({"dim": 12, "depth": 2, "grid": (3, 3), "d_state": 3}).eval()
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    analyzer = FlopAnalyzer(model, image).set_op_handle(**scan_handles())
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    ours = count_complexity(model, tuple(image.shape))
    name = "directional_scan" if kind is VMamba else "selective_scan"
    torchs = counter.get_flop_counts()["Global"][getattr(torch.ops.mmquad, name)]
    projections = torchs - ours.scan_ops  # torch counts a multiply-add as two, mmengine as one
    assert analyzer.by_operator()[name] == ours.scan_ops + projections // 2 > 0
    assert (projections > 0) == (kind is VMamba)


def test_causal_convolutions_are_convolutions() -> None:
    mixer = BidirectionalMixer(6, 12, d_state=2, dt_rank=1)
    measured = count_complexity(mixer, (1, 10, 6))
    assert measured.macs["convolution"] == 10 * 2 * 12 * 4
