#!/usr/bin/env python
"""Draw what a detector, segmenter or classifier finds in images.

python tools/demo/demo_image.py <config> <checkpoint> image.jpg --out-dir predictions
python tools/demo/demo_image.py <config> <checkpoint> folder another.png --device cuda:0
"""

import argparse
import csv
import logging
from pathlib import Path

from mmengine.utils import ProgressBar

from mmquad.analysis.pictures.model_images import images_in
from mmquad.errors import SetupError, exit_with
from mmquad.inference.inferencer import draw_predictions, make_inferencer


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Draw what a detector, segmenter or classifier finds in images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("config", help="config of mmdet, mmseg or mmpretrain")
    parser.add_argument("checkpoint", help="weights")
    parser.add_argument("images", nargs="+", help="images or folders of images")
    parser.add_argument("--out-dir", default="predictions", help="folder of the pictures")
    parser.add_argument("--device", help="such as cpu or cuda:0; a GPU if there is one")
    parser.add_argument("--score-threshold", type=float, default=0.3, help="of drawn detections")
    return parser.parse_args()


def main() -> None:
    """Predict, draw, and list what was found or skipped."""
    args = parse_args()
    logging.captureWarnings(True)
    try:
        images = images_in(args.images)
        inferencer = make_inferencer(args.config, args.checkpoint, args.device)
    except SetupError as error:
        exit_with(error)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    bar = ProgressBar(len(images))
    results = []
    for result in draw_predictions(inferencer, images, args.out_dir, args.score_threshold):
        results.append(result)
        bar.update()
    table = Path(args.out_dir) / "predictions.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "picture", "prediction"])
        writer.writerows([r.image, r.drawn or "skipped", r.summary] for r in results)
    skipped = [result for result in results if result.drawn is None]
    print(f"\n{len(results) - len(skipped)} pictures and {table} are in {args.out_dir}.")
    for result in skipped:
        print(f"skipped {result.image}: {result.summary}")
    if len(skipped) == len(results):
        raise SystemExit("No image could be used.")


if __name__ == "__main__":
    main()
