"""Turn a finished direction search into a config, and draw it.

python tools/misc/export_directions.py work_dirs/<search config> \
  configs/mmpretrain/localmamba/localvmamba-tiny_8xb128_in1k.py --out my_directions.py
"""

import argparse

from mmquad.analysis.pictures.direction_search import draw_direction_search
from mmquad.search import read_direction_log, top_directions, write_searched_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", help="work directory of the search, or its directions.jsonl")
    parser.add_argument("base", nargs="?", help="config that shall use the directions")
    parser.add_argument("--out", help="config to write; without it the directions are printed only")
    parser.add_argument("--picture", help="PNG to write: how the weights developed")
    parser.add_argument("--count", type=int, default=4, help="directions per layer (default: 4)")
    args = parser.parse_args()
    if bool(args.out) != bool(args.base):
        parser.error("base and --out go together: the config to start from and the one to write")
    return args


def main() -> None:
    args = parse_args()
    log = read_direction_log(args.work_dir)
    directions = top_directions(log, args.count)
    for layer, names in enumerate(directions):
        print(f"{layer:>3}  {names}")
    if args.out:
        source = f"the search in {args.work_dir}, iteration {log.iterations[-1]}"
        print(write_searched_config(args.out, args.base, directions, source))
    if args.picture:
        print(draw_direction_search(log, args.picture, args.count))


if __name__ == "__main__":
    main()
