"""What tools/train.py and tools/test.py have in common: options, and ending with a message."""

import argparse
import logging
import os
from collections.abc import Callable
from typing import Any

from mmengine.config import DictAction

from mmquad.checks.policy import CHECKS, switch_off
from mmquad.engine.cpu import end_cpu_process
from mmquad.engine.launch import Plan
from mmquad.errors import SetupError, exit_with

__all__ = ["add_run_options", "run_tool"]


class _Overrides(DictAction):
    """mmengine's ``KEY=VALUE``; given again it adds, where mmengine's forgets what came before."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        for value in values:
            if "=" not in value:
                parser.error(f"{option_string} takes KEY=VALUE, got {value!r}")
        before = getattr(namespace, self.dest) or {}
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, self.dest, before | getattr(namespace, self.dest))


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of trainings and tests."""
    parser.add_argument("--work-dir", help="folder of logs, checkpoints and metrics")
    parser.add_argument("--data-root", help="folder of the data, in place of the config's")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Overrides,
        metavar="KEY=VALUE",
        help='override config keys, e.g. model.backbone.with_cp=True, key="[1,2]"',
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--check", action="store_true", help="check config, data and environment, then exit"
    )
    parser.add_argument(
        "--no-checks", action="store_true", help="no checks at all, as MMQUAD_CHECKS=0"
    )
    parser.add_argument(
        "--skip-check",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out one check, by the name that its message gives; may be repeated",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def run_tool(
    parser: argparse.ArgumentParser, plan: Callable[..., Plan], run: Callable[[Plan], object]
) -> None:
    """Parse the command line, plan, and run, unless only a check is asked for.

    Args:
        parser: With :func:`add_run_options`; its other arguments have the names of those of
            ``plan``.
        plan: `plan_training` or `plan_test`.
        run: `run_training` or `run_test`.
    """
    args = vars(parser.parse_args())
    os.environ.setdefault("LOCAL_RANK", str(args.pop("local_rank")))
    check = args.pop("check")
    everything, some = args.pop("no_checks"), args.pop("skip_check")
    try:
        switch_off(CHECKS if everything else some)
        planned = plan(**args)
        if check:
            for warning in planned.warnings:
                logging.getLogger("mmquad").warning(warning)
        else:
            run(planned)
            end_cpu_process(args["launcher"])
    except SetupError as error:
        exit_with(error)
