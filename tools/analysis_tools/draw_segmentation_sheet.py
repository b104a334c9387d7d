"""Draw images, label maps and predictions of an mmseg test of the generated shapes side by side.

python tools/test.py <config> <checkpoint> --out predictions/
python tools/analysis_tools/draw_segmentation_sheet.py data/shapes_ade predictions --out sheet.png
"""

import argparse
from pathlib import Path

from mmquad.analysis.pictures.detection_sheet import write_picture
from mmquad.analysis.pictures.segmentation_sheet import (
    draw_segmentation_sheet,
    read_segmentation_examples,
)
from mmquad.datasets import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw images, label maps and predictions side by side.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "data_root", help="folder of tools/dataset_tools/generate_shapes.py --format ade20k"
    )
    parser.add_argument("predictions", help="folder written by tools/test.py --out FOLDER")
    parser.add_argument("--split", default="validation", help="split that was tested")
    parser.add_argument("--out", default="segmentation_sheet.png", help="picture to write")
    parser.add_argument("--max-images", type=int, default=12, help="images on the sheet")
    parser.add_argument("--columns", type=int, default=2, help="images per row")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    root = Path(args.data_root)
    examples = read_segmentation_examples(
        root / "images" / args.split,
        root / "annotations" / args.split,
        args.predictions,
        args.max_images,
    )
    sheet = draw_segmentation_sheet(
        examples, SEGMENTATION_CLASSES, SEGMENTATION_PALETTE, args.columns
    )
    print(write_picture(args.out, sheet))


if __name__ == "__main__":
    main()
