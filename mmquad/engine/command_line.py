"""What the commands train and test have in common: options, processes, ending with a message."""

import argparse
import logging
import os
from collections.abc import Callable
from typing import Any

from mmengine.config import DictAction

from mmquad.checks.policy import CHECKS, switch_off
from mmquad.engine.cpu import end_cpu_process
from mmquad.engine.launch import Plan
from mmquad.engine.processes import start_processes
from mmquad.errors import SetupError, exit_with

__all__ = ["add_overrides", "add_run_options", "run_tool"]


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


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return int(text)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the option that changes keys of a config."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Overrides,
        metavar="KEY=VALUE",
        help='override config keys, e.g. model.backbone.with_cp=True, key="[1,2]"',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of trainings and tests."""
    parser.add_argument("--work-dir", help="folder of logs, checkpoints and metrics")
    parser.add_argument("--data-root", help="folder of the data, in place of the config's")
    add_overrides(parser)
    parser.add_argument(
        "--gpus",
        type=_positive,
        metavar="N",
        help="run in N processes of this machine: one per GPU, or on CPUs where there is no GPU "
        "(several machines: tools/dist_train.sh)",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what started this process among others",
    )
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
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def run_tool(
    name: str,
    args: argparse.Namespace,
    plan: Callable[..., Plan],
    run: Callable[[Plan], object],
) -> None:
    """Plan, and run, unless only a check is asked for; in several processes, if asked.

    Args:
        name: Of the command, ``train`` or ``test``.
        args: The options of :func:`add_run_options`, and others with the names of arguments of
            ``plan``; ``given``, the words of the command line.
        plan: `plan_training` or `plan_test`.
        run: `run_training` or `run_test`.
    """
    options = {k: v for k, v in vars(args).items() if k not in ("run", "given")}
    os.environ.setdefault("LOCAL_RANK", str(options.pop("local_rank")))
    check, processes = options.pop("check"), options.pop("gpus")
    everything, some = options.pop("no_checks"), options.pop("skip_check")
    try:
        switch_off(CHECKS if everything else some)
        if processes and processes > 1 and options["launcher"] != "none":
            raise SetupError(
                f"--gpus {processes} starts the processes itself, but --launcher "
                f"{options['launcher']} says that they are started already: give one of the two."
            )
        # What can be found wrong is found here, once, before there are several processes.
        planned = plan(**options)
        if check:
            for warning in planned.warnings:
                logging.getLogger("mmquad").warning(warning)
        elif processes and processes > 1:
            start_processes(name, args.given, processes)
        else:
            run(planned)
            end_cpu_process(options["launcher"])
    except SetupError as error:
        exit_with(error)
