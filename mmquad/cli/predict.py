"""Draw what a detector, segmentor or classifier finds in images.

mmquad predict CONFIG CHECKPOINT image.jpg --out-dir predictions
mmquad predict CONFIG CHECKPOINT folder another.png --device cuda:0

Exit status: 0 if every image was predicted, 1 if some or all were not, 130 after Ctrl-C.
"""

import argparse
import csv
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.utils import ProgressBar

from mmquad.analysis.pictures.model_images import images_in
from mmquad.errors import SetupError, exit_with
from mmquad.inference.inferencer import ImageResult, draw_predictions, make_inferencer

INTERRUPTED = 130  # 128 and the number of the signal, as shells say it


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", help="config of mmdet, mmseg or mmpretrain, or its name")
    parser.add_argument("checkpoint", help="weights")
    parser.add_argument("images", nargs="+", help="images or folders of images")
    parser.add_argument(
        "--out-dir", default="predictions", help="folder of the pictures (default: predictions)"
    )
    parser.add_argument("--device", help="such as cpu or cuda:0; default: a GPU if there is one")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="of drawn detections (default: 0.3)"
    )


def written(results: Iterator[ImageResult], table: Path) -> Iterator[ImageResult]:
    """The results, each of which stands in the table before the next image is begun."""
    # Names of files are bytes: what is no UTF-8 in them goes back as it came.
    with open(table, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "picture", "prediction"])
        for result in results:
            writer.writerow([result.image, result.drawn or "skipped", result.summary])
            file.flush()
            yield result


def shown(text: str) -> str:
    """A text, maybe with the name of a file in it, as every terminal can show it."""
    return os.fsencode(text).decode(errors="replace")


def run(args: argparse.Namespace) -> None:
    """Predict, draw, and list what was found or skipped."""
    logging.captureWarnings(True)
    # Of single images that are missing the table says so, as of those that cannot be read.
    paths = [Path(path) for path in args.images]
    try:
        images = [image for p in paths for image in (images_in([p]) if p.is_dir() else [p])]
        inferencer = make_inferencer(args.config, args.checkpoint, args.device)
    except SetupError as error:
        exit_with(error)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    table = Path(args.out_dir) / "predictions.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    bar = ProgressBar(len(images))
    drawn, skipped = 0, []
    interrupted = False
    results = draw_predictions(inferencer, images, args.out_dir, args.score_threshold)
    try:
        for result in written(results, table):
            if result.drawn is None:
                skipped.append(result)
            else:
                drawn += 1
            bar.update()
    except KeyboardInterrupt:
        interrupted = True
    print(f"\n{drawn} pictures and {table} are in {args.out_dir}.")
    for result in skipped:
        print(shown(f"skipped {result.image}: {result.summary}"))
    if interrupted:
        print(f"Interrupted after {drawn + len(skipped)} of {len(images)} images.")
        raise SystemExit(INTERRUPTED)
    if not drawn:
        raise SystemExit("No image could be used.")
    if skipped:
        raise SystemExit(1)
