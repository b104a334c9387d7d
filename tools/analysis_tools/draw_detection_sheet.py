"""Draw annotations and predictions of an mmdet test run side by side.

python tools/test.py <config> <checkpoint> --out results.pkl
python tools/analysis_tools/draw_detection_sheet.py results.pkl \
    data/shapes_coco/annotations/instances_val2017.json --out sheet.png
"""

import argparse

from mmquad.analysis.pictures.detection_results import read_detection_examples
from mmquad.analysis.pictures.detection_sheet import draw_detection_sheet, write_picture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw annotations and predictions of an mmdet test run side by side.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("results", help="pickle written by tools/test.py --out")
    parser.add_argument("annotations", help="COCO annotation file of the tested images")
    parser.add_argument("--out", default="detection_sheet.png", help="picture to write")
    parser.add_argument("--image-root", help="folder of the images, if they have moved")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="least score to draw")
    parser.add_argument("--max-images", type=int, default=12, help="images on the sheet")
    parser.add_argument("--columns", type=int, default=2, help="image pairs per row")
    parser.add_argument("--panel-side", type=int, default=320, help="longest side in pixels")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    examples, class_names = read_detection_examples(
        args.results,
        args.annotations,
        image_root=args.image_root,
        score_threshold=args.score_threshold,
        max_images=args.max_images,
    )
    sheet = draw_detection_sheet(examples, class_names, args.columns, args.panel_side)
    print(write_picture(args.out, sheet))


if __name__ == "__main__":
    main()
