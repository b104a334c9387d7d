"""Draw images of an mmpretrain test with their true and their predicted class.

python tools/test.py <config> <checkpoint> --out results.pkl
python tools/analysis_tools/draw_classification_sheet.py results.pkl --out sheet.png
"""

import argparse

from mmquad.analysis.pictures.classification_sheet import (
    draw_classification_sheet,
    read_classification_examples,
)
from mmquad.analysis.pictures.detection_sheet import write_picture
from mmquad.datasets import CLASSIFICATION_CLASSES


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw images with their true and their predicted class.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("results", help="pickle written by tools/test.py --out")
    parser.add_argument(
        "--classes", nargs="+", default=CLASSIFICATION_CLASSES, help="names of the classes"
    )
    parser.add_argument("--out", default="classification_sheet.png", help="picture to write")
    parser.add_argument("--max-images", type=int, default=32, help="images on the sheet")
    parser.add_argument("--columns", type=int, default=8, help="images per row")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    examples = read_classification_examples(args.results, args.max_images)
    print(write_picture(args.out, draw_classification_sheet(examples, args.classes, args.columns)))


if __name__ == "__main__":
    main()
