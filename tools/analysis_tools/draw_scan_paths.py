"""Draw the orders in which the scans of this package read a grid.

python tools/analysis_tools/draw_scan_paths.py --out scan_paths.png
python tools/analysis_tools/draw_scan_paths.py --size 7 12 --only quad --out quad.png
"""

import argparse

from mmquad.analysis.pictures.scan_paths import (
    EXAMPLE_DILATIONS,
    EXAMPLE_SCANS,
    draw_scan_paths,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw the orders in which the scans of this package read a grid.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="scan_paths.png", help="PNG to write")
    parser.add_argument("--size", nargs=2, type=int, default=[8, 8], metavar=("H", "W"))
    parser.add_argument("--only", default="", help="draw scans whose name contains this")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    scans = {name: scan for name, scan in EXAMPLE_SCANS.items() if args.only in name}
    dilations = {name: d for name, d in EXAMPLE_DILATIONS.items() if args.only in name}
    if not scans and not dilations:
        names = [*EXAMPLE_SCANS, *EXAMPLE_DILATIONS]
        raise SystemExit(f"--only must be part of one of {names}, got {args.only!r}")
    print(draw_scan_paths(scans, args.out, *args.size, dilations))


if __name__ == "__main__":
    main()
