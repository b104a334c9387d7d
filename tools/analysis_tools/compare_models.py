"""Write docs/comparison.md: parameters and FLOPs of every model, beside what the papers print.

python tools/analysis_tools/compare_models.py          # all; some minutes
python tools/analysis_tools/compare_models.py VMamba   # prints one family, writes nothing
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from mmengine.hub import get_config

from mmquad import backbones
from mmquad.analysis.comparison import (
    Row,
    arch_of,
    classifier_cost,
    comparison_table,
    config_cost,
)
from mmquad.analysis.controls import CLASSIFIERS, control_name
from mmquad.analysis.zoo import read_metafiles
from mmquad.backbones.efficientvmamba import EFFICIENTVMAMBA_ARCHS
from mmquad.backbones.groupmamba import GROUPMAMBA_ARCHS
from mmquad.backbones.localvim import LOCALVIM_ARCHS
from mmquad.backbones.localvmamba import LOCALVMAMBA_ARCHS
from mmquad.backbones.mambavision import MAMBAVISION_ARCHS
from mmquad.backbones.plainmamba import PLAINMAMBA_ARCHS
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS
from mmquad.backbones.spatialmamba import SPATIALMAMBA_ARCHS
from mmquad.backbones.vim import VIM_ARCHS
from mmquad.backbones.vmamba import VMAMBA_ARCHS
from mmquad.compat import load_config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "comparison.md"
COUNTS = ROOT / "docs" / "comparison.json"  # the same for the plot
TASKS = ("classification", "detection", "segmentation")
ARCHS = {
    "QuadMamba": QUADMAMBA_ARCHS,
    "VMamba": VMAMBA_ARCHS,
    "LocalVMamba": LOCALVMAMBA_ARCHS,
    "Vim": VIM_ARCHS,
    "LocalVim": LOCALVIM_ARCHS,
    "PlainMamba": PLAINMAMBA_ARCHS,
    "MambaVision": MAMBAVISION_ARCHS,
    "SpatialMamba": SPATIALMAMBA_ARCHS,
    "EfficientVMamba": EFFICIENTVMAMBA_ARCHS,
    "GroupMamba": GROUPMAMBA_ARCHS,
}
CONTROL = "controls"
# Where classifiers have parts of their own.
CLASS_TOKENS = {"GroupMamba": {"out_type": "class_token"}}
MARKER = "<!-- tables: written by tools/analysis_tools/compare_models.py -->"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = (*ARCHS, CONTROL)
    parser.add_argument("family", nargs="?", choices=names, help="only these backbones; print")
    return parser.parse_args()


def classifier_rows(families: list[str], papers: dict[str, Any]) -> list[Row]:
    costs = {
        f"{family} {arch}": classifier_cost(
            getattr(backbones, family), arch, **CLASS_TOKENS.get(family, {})
        )
        for family in families
        if family in ARCHS
        for arch in ARCHS[family]
    }
    if CONTROL in families:
        costs |= {name: config_cost(get_config(cfg)) for name, cfg in CLASSIFIERS.items()}
    rows = [Row(name, cost, papers.get(name, {})) for name, cost in costs.items()]
    return rows + config_rows("mmpretrain", [f for f in families if f == CONTROL], papers)


def config_rows(scope: str, families: list[str], papers: dict[str, Any]) -> list[Row]:
    """One row per architecture: its schedules train the same model."""
    rows: dict[str, Row] = {}
    prefixes = {"mmdet": "mask-rcnn", "mmseg": "upernet_", "mmpretrain": "regnety"}
    for content in read_metafiles(ROOT):
        for model in content["Models"]:
            path = ROOT / model["Config"]
            if path.parts[-3] != scope or not path.name.startswith(prefixes[scope]):
                continue
            family = CONTROL if control_name(path) else None
            if family is not None and family not in families:
                continue
            cfg = load_config(str(path))
            name = arch_of(path, cfg)
            if name not in rows and (family or name.split()[0]) in families:
                rows[name] = Row(name, config_cost(cfg), papers.get(name, {}))
    return list(rows.values())


def main() -> None:
    args = parse_args()
    papers = yaml.safe_load((ROOT / "configs" / "papers.yml").read_text())
    families = [args.family] if args.family else [*ARCHS, CONTROL]
    parts = {
        "ImageNet classifiers, 224 x 224": classifier_rows(families, papers["classification"]),
        "Mask R-CNN, 1280 x 800": config_rows("mmdet", families, papers["detection"]),
        "UperNet, 512 x 2048": config_rows("mmseg", families, papers["segmentation"]),
    }
    tables = "\n".join(f"## {title}\n\n{comparison_table(rows)}" for title, rows in parts.items())
    if args.family:
        print(tables)
        return
    before, marker, _ = PAGE.read_text().partition(MARKER)
    PAGE.write_text(f"{before}{marker}\n\n{tables}")
    counts = {
        task: {row.name: {"params": row.cost.params, "flops": row.cost.total} for row in rows}
        for task, rows in zip(TASKS, parts.values(), strict=True)
    }
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n")
    print(PAGE, COUNTS)


if __name__ == "__main__":
    main()
