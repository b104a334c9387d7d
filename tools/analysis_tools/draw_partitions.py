"""Draw, for every quadtree block of a model, how it partitions an image, and its scores.

python tools/analysis_tools/draw_partitions.py <config> <checkpoint> image.jpg
python tools/analysis_tools/draw_partitions.py <config> <checkpoint> folder --out-dir partitions
"""

import argparse
from collections import Counter
from pathlib import Path

import cv2

from mmquad.analysis.pictures.detection_sheet import write_picture
from mmquad.analysis.pictures.model_images import image_to_input, images_in, input_to_image
from mmquad.analysis.pictures.partition_maps import draw_partition_sheet, image_partitions
from mmquad.errors import SetupError, exit_with
from mmquad.inference.model_loading import build_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw how the quadtree blocks of a model partition images, and their scores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("config", help="config of mmdet, mmseg or mmpretrain")
    parser.add_argument("checkpoint", help="weights")
    parser.add_argument("images", nargs="+", help="images or folders of images")
    parser.add_argument("--out-dir", default="partitions", help="folder for one picture per image")
    parser.add_argument("--side", type=int, default=0, help="longer side of the input; 0: as it is")
    parser.add_argument("--panel-side", type=int, default=200, help="longer side of a panel")
    parser.add_argument("--columns", type=int, default=8, help="panels beside each other")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        model, _ = build_model(args.config, args.checkpoint)
    except SetupError as error:
        exit_with(error)
    preprocessor = getattr(model, "data_preprocessor", None)
    names: Counter[str] = Counter()
    for path in images_in(args.images):
        picture = cv2.imread(str(path))
        if picture is None:
            print(f"{path}: cannot be decoded, skipped")
            continue
        inputs = image_to_input(picture[..., ::-1], preprocessor, args.side)
        (partitions,) = image_partitions(model.backbone, inputs)
        image = input_to_image(inputs[0], preprocessor)
        sheet = draw_partition_sheet(image, partitions, args.panel_side, args.columns)
        names[path.stem] += 1
        number = names[path.stem]  # folders may hold images of one name
        name = path.stem if number == 1 else f"{path.stem}_{number}"
        print(write_picture(Path(args.out_dir) / f"{name}.jpg", sheet))


if __name__ == "__main__":
    main()
