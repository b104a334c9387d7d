"""Counters of other libraries count the scans, without being told by the user."""

import subprocess
import sys

import pytest
import torch
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer, get_model_complexity_info
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmquad.analysis.complexity import count_complexity
from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVMamba,
    MambaVision,
    PlainMamba,
    QuadMamba,
    SpatialMamba,
    Vim,
    VMamba,
)
from mmquad.ops import causal_conv1d, directional_scan, selective_scan
from mmquad.ops.costs import COSTS
from mmquad.scans import CrossScan

SIZES = {"dim": 8, "depths": (1, 1), "ssm_ratio": 2}
LOCAL = {"dim": 8, "depths": (1, 1), "directions": ["h v_flip w2 w7_flip"]}
HYBRID = {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2), "num_heads": (2,), "window": (3,)}
BACKBONES = {
    "quadmamba": lambda: QuadMamba(SIZES | {"quad_stages": (0,)}, out_indices=(0, 1)),
    "quadmamba-released": lambda: QuadMamba(
        SIZES | {"quad_stages": (0,)}, out_indices=(0, 1), quadtree="released"
    ),
    "vmamba": lambda: VMamba(SIZES, out_indices=(0, 1)),
    "localvmamba": lambda: LocalVMamba(LOCAL, out_indices=(0, 1)),
    "mambavision": lambda: MambaVision(HYBRID),
    "efficientvmamba": lambda: EfficientVMamba(
        {"dim": 8, "depths": (1, 1), "scan_stages": 1, "d_state": 2}
    ),
    "groupmamba": lambda: GroupMamba(
        {"dims": (8, 12), "stem_dim": 4, "depths": (1, 1), "mlp_ratios": (2, 2)},
        out_type="class_token",
    ),
    "spatialmamba": lambda: SpatialMamba({"dim": 8, "depths": (1, 1)}),
    "vim": lambda: Vim({"dim": 12, "depth": 2, "grid": (3, 3), "d_state": 3}),
    "plainmamba": lambda: PlainMamba({"dim": 12, "depth": 2, "grid": (3, 3), "d_state": 3}),
}
SHAPE = (3, 33, 47)


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return BACKBONES[request.param]().eval()


def ours(model: nn.Module) -> int:
    """Multiply-adds and scan operations of this package's ops alone."""
    counted = count_complexity(model, (1, *SHAPE))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *SHAPE))
    counts = counter.get_flop_counts()["Global"]
    mixed = sum(n for op, n in counts.items() if str(op).startswith("mmquad"))
    # torch counts a multiply-add twice.
    return counted.scan_ops + (mixed - counted.scan_ops) // 2


@pytest.mark.filterwarnings("ignore")
def test_mmengine_counts_the_scans(model: nn.Module) -> None:
    with_scans = get_model_complexity_info(model, SHAPE, show_table=False, show_arch=False)
    counters = [kind(model, torch.zeros(1, *SHAPE)) for kind in (FlopAnalyzer, ActivationAnalyzer)]
    for counter in counters:
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counter.total()
        assert not [name for name in counter.unsupported_ops() if name.startswith("mmquad")]
    by_operator = counters[0].by_operator()
    assert sum(by_operator.get(name, 0) for name in COSTS) == ours(model) > 0
    assert counters[0].total() == with_scans["flops"] == sum(by_operator.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["vmamba", "vim"])
def test_fvcore_counts_as_mmengine_does(name: str) -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    model = BACKBONES[name]().eval()
    theirs = get_model_complexity_info(model, SHAPE, show_table=False, show_arch=False)
    counter = fvcore.FlopCountAnalysis(model, torch.zeros(1, *SHAPE))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert counter.total() == theirs["flops"]


def test_fvcore_is_not_imported_for_it() -> None:
    code = (
        "import sys\n"
        "from mmquad.backbones import VMamba\n"
        "assert 'mmengine.analysis' not in sys.modules, 'importing does nothing else'\n"
        "VMamba({'dim': 8, 'depths': (1,), 'ssm_ratio': 1})\n"
        "assert 'fvcore' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_handles_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.analysis import complexity_analysis

    table = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
    mine = object()
    monkeypatch.setitem(table, "mmquad::selective_scan", mine)
    VMamba(SIZES)
    assert table["mmquad::selective_scan"] is mine


def total(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_torch_counts_forward_and_backward() -> None:
    """By hand: B = 2, L = 6, D = 4, N = 3, R = 5, K = 4, W = 2."""
    u, A, B = torch.ones(2, 4, 6, requires_grad=True), -torch.ones(4, 3), torch.ones(2, 3, 6)
    scan = 9 * 2 * 6 * 4 * 3
    assert total(lambda: selective_scan(u, u, A, B, B)) == scan
    skip = torch.ones(4)
    assert total(lambda: selective_scan(u, u, A, B, B, skip)) == scan + 2 * 6 * 4
    assert total(lambda: selective_scan(u, u, A, B, B).sum().backward()) == 3 * scan

    x, taps = torch.ones(2, 6, 4, requires_grad=True), torch.ones(4, 2)
    convolution = 2 * 2 * 6 * 4 * 2
    assert total(lambda: causal_conv1d(x, taps)) == convolution
    assert total(lambda: causal_conv1d(x, taps).sum().backward()) == 3 * convolution

    tables = CrossScan().tables(2, 3, torch.device("cpu"))
    weight, bias = torch.ones(4, 4, 5), torch.ones(4, 4)
    inputs = (torch.ones(2, 6, 4 * 11), weight, bias, -torch.ones(4, 4, 3), bias, *tables)
    fused = 4 * (scan + 2 * 6 * 4) + 2 * 2 * 6 * 4 * 4 * 5
    assert total(lambda: directional_scan(x, *inputs)) == fused
    assert total(lambda: directional_scan(x, *inputs).sum().backward()) == 3 * fused


def test_no_op_is_left_out() -> None:
    names = {n.removeprefix("mmquad::") for n in torch._C._dispatch_get_all_op_names()}
    of_this_package = {n for n in names if hasattr(torch.ops.mmquad, n)}
    assert {n for n in of_this_package if not n.endswith("_backward")} == set(COSTS)
