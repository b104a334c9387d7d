#!/usr/bin/env python
"""Train a model of mmdet, mmseg or mmpretrain; the config's default_scope says which."""

import argparse
import os

from mmengine.config import DictAction

from mmquad.engine.cpu import end_cpu_process
from mmquad.engine.errors import SetupError, exit_with
from mmquad.engine.launch import plan_training, run_training


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints")
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
    parser.add_argument("--data-root", help="folder of the data, in place of the config's")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='override config keys, e.g. model.backbone.with_cp=True, key="[1,2]"',
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--check", action="store_true", help="check config, data and environment, then exit"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Check, then train."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    try:
        plan = plan_training(
            args.config,
            work_dir=args.work_dir,
            resume=args.resume,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            data_root=args.data_root,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
        )
        if not args.check:
            run_training(plan)
            end_cpu_process(args.launcher)
    except SetupError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
