"""Write the tables of configs (configs/*/quadmamba/README.md) from model-index.yml.

python tools/misc/generate_zoo_tables.py          # write
python tools/misc/generate_zoo_tables.py --check  # say which are out of date
"""

import argparse
from pathlib import Path

from mmquad.analysis.zoo import zoo_pages

ROOT = Path(__file__).parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write the tables of configs from model-index.yml and the metafiles."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    stale = []
    for path, text in zoo_pages(ROOT).items():
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not args.check:
            path.write_text(text)
    if args.check and stale:
        raise SystemExit(f"out of date: {', '.join(stale)}; run tools/misc/generate_zoo_tables.py")
    print(f"{len(stale)} written" if stale else "all up to date")


if __name__ == "__main__":
    main()
