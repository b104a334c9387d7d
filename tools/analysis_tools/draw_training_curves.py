"""Draw the loss and the validation metrics of a training.

python tools/analysis_tools/draw_training_curves.py work_dirs/<config> --out curves.png
python tools/analysis_tools/draw_training_curves.py work_dirs/<config> --metrics mIoU
"""

import argparse

from mmquad.analysis.pictures.training_curves import draw_training_curves, read_training_log


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw the loss and the validation metrics of a training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("work_dir", help="work directory of the training")
    parser.add_argument("--out", default="training_curves.png", help="PNG to write")
    parser.add_argument(
        "--metrics",
        nargs="*",
        default=["coco/bbox_mAP", "coco/segm_mAP"],
        help="validation metrics, e.g. mIoU or accuracy/top1; none for losses only",
    )
    parser.add_argument("--losses", nargs="+", default=["loss"], help="training losses")
    parser.add_argument("--title", help="title of the picture")
    parser.add_argument(
        "--latest-only",
        action="store_true",
        help="draw the latest run alone instead of joining resumed runs",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    log = read_training_log(args.work_dir, latest_only=args.latest_only)
    print(draw_training_curves(log, args.out, args.metrics, args.losses, args.title))


if __name__ == "__main__":
    main()
