"""Check that a data set is complete and where the configs look for it.

python tools/dataset_tools/check_data.py ade20k
python tools/dataset_tools/check_data.py coco --root /data/coco2017
"""

import argparse
from pathlib import Path

from mmquad.checks.data_trees import DATASETS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Check that a data set is complete and where the configs look for it."
    )
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--root", help="its folder; default: where the configs look")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
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


if __name__ == "__main__":
    main()
