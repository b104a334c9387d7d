"""Costs of whole models under the papers' protocols, and how they are set beside the papers'."""

from pathlib import Path

import pytest
import yaml
from mmengine.hub import get_config

from mmquad.analysis.comparison import (
    Row,
    arch_of,
    classifier_cost,
    comparison_table,
    config_cost,
    difference,
)
from mmquad.analysis.complexity import Complexity
from mmquad.analysis.controls import CLASSIFIERS, CONTROLS, control_name
from mmquad.backbones import GroupMamba, PlainMamba, Vim, VMamba
from mmquad.compat import load_config

ROOT = Path(__file__).parents[2]


# In G, as the VMamba release counts them (README and assets/performance.md).
@pytest.mark.parametrize(("arch", "flops"), [("vanilla-tiny", 5.6), ("tiny-s1l8", 4.9)])
def test_vmamba_classifiers_cost_what_the_release_says(arch: str, flops: float):
    assert classifier_cost(VMamba, arch).total / 1e9 == pytest.approx(flops, abs=0.06)


def test_plainmamba_costs_more_scan_than_its_paper_counts():
    cost = classifier_cost(PlainMamba, "L1")
    assert cost.scan_ops == 24 * (9 * 196 * 4 * 384 * 16 + 196 * 4 * 384)


def test_class_tokens_are_counted_with_their_block():
    cost = classifier_cost(GroupMamba, "tiny", out_type="class_token")
    assert cost.params == 22_912_917
    assert cost.total / 1e9 == pytest.approx(4.665, abs=1e-3)  # multiply-adds of the release


@pytest.mark.slow
def test_detectors_and_segmentors_cost_what_the_release_says():
    name = "mask-rcnn_vmamba-vanilla-tiny_fpn_1x_coco.py"
    cfg = load_config(str(ROOT / "configs" / "mmdet" / "vmamba" / name))
    assert arch_of(Path(name), cfg) == "VMamba vanilla-tiny"
    assert config_cost(cfg).total / 1e9 == pytest.approx(286, rel=0.02)
    name = "upernet_vmamba-vanilla-tiny_8xb2-160k_ade20k-512x512.py"
    cfg = load_config(str(ROOT / "configs" / "mmseg" / "vmamba" / name))
    assert config_cost(cfg).total / 1e9 == pytest.approx(964, rel=0.02)


def test_classifiers_of_configs_cost_what_they_are_known_to():
    """Also where the host reads drop path rates, which have no values on the meta device."""
    swin = config_cost(get_config(CLASSIFIERS["Swin-T"]))
    assert swin.params == 28_288_354
    assert swin.total / 1e9 == pytest.approx(4.5, abs=0.06)  # its paper's
    cfg = load_config(str(ROOT / "configs/mmpretrain/vim/vim-tiny_8xb128_in1k.py"))
    assert config_cost(cfg).total == classifier_cost(Vim, "tiny").total
    cfg.default_scope = "mmpose"
    with pytest.raises(ValueError, match="one of mmpretrain, mmdet, mmseg, got 'mmpose'"):
        config_cost(cfg)


def test_controls_are_called_what_papers_call_them():
    named = {control_name(path) for path in ROOT.glob("configs/*/controls/*.py")}
    assert named == set(CONTROLS.values())
    assert control_name("configs/mmdet/vmamba/mask-rcnn_vmamba-tiny-s1l8_fpn_1x_coco.py") is None
    assert control_name("controls/upernet_swin-small_8xb2.py") == "Swin-S"


@pytest.mark.parametrize(
    ("counted", "printed", "expected"),
    [
        (10.1, "10", "+1.0 %"),
        (7.3, "7", "+4.3 % ~"),
        (25.8, "25", "+3.2 % ~"),
        (26.1, "25", "+4.4 % !"),
        (5.4, "5.6", "-3.6 % !"),
        (5.0, None, ""),
    ],
)
def test_differences_over_two_percent_are_marked(counted, printed, expected):
    assert difference(counted, printed) == expected


def test_table():
    cost = Complexity({"matmul": 4_000_000_000}, 500_000_000, 7_100_000)
    table = comparison_table(
        [Row("Vim tiny", cost, {"params": "7", "flops": "4.0"}), Row("X", cost, {})]
    )
    assert (
        table.splitlines()[2] == "| Vim tiny | 7.10 | 7 | +1.4 % | 4.50 | 0.50 | 4.0 | +12.5 % ! |"
    )
    assert table.splitlines()[3] == "| X | 7.10 |  |  | 4.50 | 0.50 |  |  |"


def test_every_printed_figure_has_a_source_and_a_row():
    papers = yaml.safe_load((ROOT / "configs" / "papers.yml").read_text())
    page = (ROOT / "docs" / "comparison.md").read_text()
    for task in ("classification", "detection", "segmentation"):
        for name, printed in papers[task].items():
            assert printed["source"] in papers["Sources"]
            assert f"| {name} |" in page
            assert float(printed["params"]) > 0
            assert float(printed.get("flops", "1")) > 0
