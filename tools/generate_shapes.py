"""Generate the shapes data set, laid out as COCO 2017.

python tools/generate_shapes.py --root data/shapes_coco
"""

import argparse

from mmquad.datasets import generate_shapes_coco


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Generate the shapes data set, laid out as COCO 2017.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", default="data/shapes_coco", help="folder to make")
    parser.add_argument("--num-train", type=int, default=400, help="training images")
    parser.add_argument("--num-val", type=int, default=80, help="validation images")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a data set generated with other parameters",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    root = generate_shapes_coco(
        args.root, args.num_train, args.num_val, args.seed, overwrite=args.overwrite
    )
    print(f"{root}: {args.num_train} training and {args.num_val} validation images")


if __name__ == "__main__":
    main()
