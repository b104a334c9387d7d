#!/usr/bin/env python
"""Test a checkpoint of mmdet, mmseg or mmpretrain; the config's default_scope says which."""

import argparse
import os

from mmengine.config import DictAction

from mmquad.engine.cpu import end_cpu_process
from mmquad.engine.errors import SetupError, exit_with
from mmquad.engine.launch import plan_test, run_test


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    parser.add_argument("--work-dir", help="folder of logs and metrics")
    parser.add_argument(
        "--out", metavar="FILE.pkl", help="file for predictions (mmseg: or a folder, label maps)"
    )
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="folder for drawn predictions")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds per window")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    parser.add_argument("--data-root", help="folder of the data, in place of the config's")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help='override config keys, e.g. model.test_cfg.rcnn.score_thr=0.3, key="[1,2]"',
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--check", action="store_true", help="check config, data and environment, then exit"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Check, then test."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    try:
        plan = plan_test(
            args.config,
            args.checkpoint,
            work_dir=args.work_dir,
            out=args.out,
            show=args.show,
            show_dir=args.show_dir,
            wait_time=args.wait_time,
            tta=args.tta,
            data_root=args.data_root,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
        )
        if not args.check:
            run_test(plan)
            end_cpu_process(args.launcher)
    except SetupError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
