#!/usr/bin/env python
"""Test a checkpoint of mmdet, mmseg or mmpretrain; the config's default_scope says which."""

import argparse

from mmquad.engine.command_line import add_run_options, run_tool
from mmquad.engine.launch import plan_test, run_test


def main() -> None:
    """Check, then test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    parser.add_argument(
        "--out", metavar="FILE.pkl", help="file for predictions (mmseg: or a folder, label maps)"
    )
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="folder for drawn predictions")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds per window")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    add_run_options(parser)
    run_tool(parser, plan_test, run_test)


if __name__ == "__main__":
    main()
