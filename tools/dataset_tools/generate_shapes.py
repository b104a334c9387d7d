"""Generate the shapes data set, laid out as COCO 2017, ADE20K or ImageNet.

python tools/dataset_tools/generate_shapes.py
python tools/dataset_tools/generate_shapes.py --format ade20k
"""

import argparse

from mmquad.datasets import (
    generate_shapes_ade,
    generate_shapes_coco,
    generate_shapes_imagenet,
)

# The folder and the numbers of training and validation images are those of the demo configs.
FORMATS = {
    "coco": (generate_shapes_coco, "data/shapes_coco", 600, 80),
    "ade20k": (generate_shapes_ade, "data/shapes_ade", 600, 80),
    "imagenet": (generate_shapes_imagenet, "data/shapes_imagenet", 3000, 400),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Generate the shapes data set, laid out as COCO 2017, ADE20K or ImageNet.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, default="coco", help="layout of the files")
    parser.add_argument("--root", help="folder to make; default: that of the demo's config")
    parser.add_argument("--num-train", type=int, help="training images; default: the demo's")
    parser.add_argument("--num-val", type=int, help="validation images; default: the demo's")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a data set generated with other parameters",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    generate, root, num_train, num_val = FORMATS[args.format]
    num_train = num_train if args.num_train is None else args.num_train
    num_val = num_val if args.num_val is None else args.num_val
    root = args.root or root
    try:
        folder = generate(root, num_train, num_val, args.seed, overwrite=args.overwrite)
    except (OSError, ValueError) as error:
        raise SystemExit(f"Nothing was generated: {error}") from None
    print(f"{folder}: {num_train} training and {num_val} validation images")


if __name__ == "__main__":
    main()
