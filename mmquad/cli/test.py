"""Test a checkpoint of mmdet, mmseg or mmpretrain; the config's default_scope says which.

mmquad test mask-rcnn_quadmamba-tiny_fpn_1x_coco work_dirs/run/epoch_12.pth --gpus 8
"""

import argparse

from mmquad.engine.command_line import add_run_options, run_tool
from mmquad.engine.launch import plan_test, run_test


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", help="path of the config, or its name")
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    parser.add_argument(
        "--out", metavar="FILE.pkl", help="file for predictions (mmseg: or a folder, label maps)"
    )
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="folder for drawn predictions")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds per window")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    add_run_options(parser)


def run(args: argparse.Namespace) -> None:
    """Check, then test."""
    run_tool("test", args, plan_test, run_test)
