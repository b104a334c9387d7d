"""Write a config for own data that inherits from one of this package; say what the data holds.

mmquad new-config --base mask-rcnn_quadmamba-tiny_fpn_1x_coco --out mine.py --gpus 1 \\
    --train my/train.json --train-images my/images --val my/val.json --val-images my/images
mmquad new-config --base quadmamba-tiny_8xb128_in1k --out mine.py \\
    --train my/photos/train --val my/photos/val

Detectors take annotation files in COCO's format, classifiers a folder with a folder for each class.
Nothing of the data is changed. What is wrong in it is listed; --check ends there.
"""

import argparse
from pathlib import Path

from mmquad.engine.config_loading import read_config
from mmquad.errors import SetupError, exit_with
from mmquad.own_data import describe, images_in_both, new_config, read_class_folders, read_coco


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--base", required=True, help="path or name of the config to inherit from")
    parser.add_argument("--train", required=True, help="annotation file, or folder of classes")
    parser.add_argument("--val", required=True, help="the same for validation")
    parser.add_argument("--train-images", help="folder of the images that the file names")
    parser.add_argument("--val-images", help="the same for validation; --train-images unless given")
    parser.add_argument("--out", default="own_data.py", help="file to write (default: own_data.py)")
    parser.add_argument("--gpus", type=int, default=1, help="that will train (default: 1)")
    parser.add_argument("--batch-size", type=int, help="images per GPU; the base's unless given")
    parser.add_argument("--epochs", type=int, help="the base's schedule compressed to so many")
    parser.add_argument("--weights", help="checkpoint of a whole model to begin with")
    parser.add_argument("--check", action="store_true", help="look at the data, write nothing")


def run(args: argparse.Namespace) -> None:
    """Read, tell, write."""
    try:
        scope = read_config(args.base).default_scope
        folders: list[str] = []
        if scope == "mmdet":
            if not args.train_images:
                raise SetupError("a detector needs --train-images, the folder of the images")
            folders = [args.train_images, args.val_images or args.train_images]
            train, val = (
                read_coco(file, folder)
                for file, folder in zip((args.train, args.val), folders, strict=True)
            )
        else:
            train, val = read_class_folders(args.train), read_class_folders(args.val)
        print(f"{describe(train)}\n{describe(val)}")
        for one, other in images_in_both(train.images, val.images)[:10]:
            print(f"  the same image in both splits: {one}, {other}")
        text = new_config(
            args.base,
            train,
            val,
            folders=folders,
            gpus=args.gpus,
            batch_size=args.batch_size,
            epochs=args.epochs,
            weights=args.weights,
        )
    except SetupError as error:
        exit_with(error)
    if args.check:
        return
    out = Path(args.out)
    if out.exists():
        raise SystemExit(f"\n{out} exists already: name another file with --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"{out}: mmquad train {out}")
