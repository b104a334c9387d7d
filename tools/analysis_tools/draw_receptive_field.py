"""Draw the effective receptive field of backbones, before and after training.

python tools/analysis_tools/draw_receptive_field.py --config <config> \\
    --checkpoint <checkpoint> --images folder
python tools/analysis_tools/draw_receptive_field.py --backbone QuadMamba:lite \\
    --backbone VMamba:vanilla-tiny
"""

import argparse

import cv2
import torch

from mmquad.analysis.pictures.model_images import image_to_input, images_in
from mmquad.analysis.pictures.receptive_field import (
    draw_receptive_fields,
    effective_receptive_field,
)
from mmquad.errors import SetupError, exit_with
from mmquad.inference.model_loading import build_model
from mmquad.registry import MODELS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw the effective receptive field of backbones, before and after training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", help="config whose backbone is drawn as initialised")
    parser.add_argument("--checkpoint", help="and with these weights beside it")
    parser.add_argument(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME:ARCH",
        help="a registered backbone, as initialised; may be repeated",
    )
    parser.add_argument("--images", nargs="+", help="images or folders; none: random noise")
    parser.add_argument("--max-images", type=int, default=8, help="images to average over")
    parser.add_argument("--size", type=int, default=224, help="images are scaled to this square")
    parser.add_argument("--out-index", type=int, default=-1, help="which map of the backbone")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and noise")
    parser.add_argument("--out", default="receptive_field.png", help="PNG to write")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.config and not args.backbone:
        raise SystemExit("Give --config, or --backbone once or more, e.g. --backbone Vim:tiny.")
    if args.checkpoint and not args.config:
        raise SystemExit("--checkpoint needs the --config of its model.")
    torch.manual_seed(args.seed)
    backbones, preprocessor = {}, None
    if args.config:
        try:
            model, _ = build_model(args.config)
            backbones["initial"] = model.backbone
            if args.checkpoint:
                model, _ = build_model(args.config, args.checkpoint)
                backbones["trained"] = model.backbone
        except SetupError as error:
            exit_with(error)
        preprocessor = getattr(model, "data_preprocessor", None)
    for name in args.backbone:
        kind, _, arch = name.partition(":")
        settings = {"arch": arch} if arch else {}
        backbones[f"{kind} {arch}".strip()] = MODELS.build({"type": f"mmquad.{kind}", **settings})

    inputs = torch.randn(args.max_images, 3, args.size, args.size)
    if args.images:
        square = []
        for path in images_in(args.images)[: args.max_images]:
            picture = cv2.imread(str(path))
            if picture is None:
                raise SystemExit(f"{path}: cannot be decoded")
            square.append(cv2.resize(picture, (args.size, args.size))[..., ::-1])
        inputs = torch.cat([image_to_input(p, preprocessor, 0) for p in square])
    fields = {
        title: effective_receptive_field(backbone, inputs, args.out_index)
        for title, backbone in backbones.items()
    }
    print(draw_receptive_fields(fields, args.out))


if __name__ == "__main__":
    main()
