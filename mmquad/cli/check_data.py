"""Check that a data set is complete and where the configs look for it.

mmquad check-data ade20k
mmquad check-data coco --root /data/coco2017
"""

import argparse
from pathlib import Path

from mmquad.checks.data_trees import DATASETS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("dataset", choices=DATASETS, help="which one")
    parser.add_argument("--root", help="its folder; default: where the configs look")


def run(args: argparse.Namespace) -> None:
    """List what is there and what is not."""
    check, default_root = DATASETS[args.dataset]
    root = Path(args.root or default_root)
    if not root.is_dir():
        raise SystemExit(
            f"{root} is missing (looked from {Path.cwd()}). Link the data there, or name the "
            "folder with --root; docs/reproduce.md says how to get it."
        )
    failed = 0
    for finding in check(root):
        failed += not finding.ok
        print(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.part}: {finding.detail}")
    if failed:
        raise SystemExit(f"\n{failed} things are wrong with {root}.")
    print(f"\n{root} is complete.")
