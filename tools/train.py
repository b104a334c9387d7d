#!/usr/bin/env python
"""Train a model of mmdet, mmseg or mmpretrain; the config's default_scope says which."""

import argparse

from mmquad.engine.command_line import add_run_options, run_tool
from mmquad.engine.launch import plan_training, run_training


def main() -> None:
    """Check, then train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config")
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
    run_tool(parser, plan_training, run_training)


if __name__ == "__main__":
    main()
