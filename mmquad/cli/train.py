"""Train a model of mmdet, mmseg or mmpretrain; the config's default_scope says which.

mmquad train mask-rcnn_quadmamba-tiny_fpn_1x_coco --data-root data/coco --gpus 8
mmquad train configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py --check
"""

import argparse

from mmquad.engine.command_line import add_run_options, run_tool
from mmquad.engine.launch import plan_training, run_training


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", help="path of the config, or its name")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="continue from the given checkpoint, or from the latest one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (needs a GPU)")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the total batch size over auto_scale_lr.base_batch_size",
    )
    add_run_options(parser)


def run(args: argparse.Namespace) -> None:
    """Check, then train."""
    run_tool("train", args, plan_training, run_training)
