"""Finds the module of a command, parses, runs; imports nothing of the other commands."""

import argparse
import ast
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from mmquad import __version__
from mmquad.cli.completion import SHELLS, completion_script

__all__ = ["command_parser", "commands", "main", "run_script"]

_FRAME = {"__init__", "completion", "main"}


def commands() -> dict[str, str]:
    """First lines of the help of all commands, by name, in alphabetical order."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in _FRAME:
            # Read, not imported: a list of commands must not take the seconds that torch does.
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem.replace("_", "-")] = text.splitlines()[0]
    return found


def command_parser(name: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of a command.

    Args:
        name: Of :func:`commands`.
        prog: What its help calls it; ``mmquad NAME`` unless given.
    """
    module = import_module(f"mmquad.cli.{name.replace('-', '_')}")
    known_as = prog or f"mmquad {name}"
    parser = argparse.ArgumentParser(
        prog=known_as,
        description=(module.__doc__ or "").replace(f"mmquad {name}", known_as),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_options(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``mmquad ARGUMENTS``; those of the process unless given."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in (known := commands()):
        _run(command_parser(given[0]), given[1:])
        return
    parser = argparse.ArgumentParser(
        prog="mmquad",
        description="Vision state-space backbones for mmdetection, mmsegmentation and mmpretrain.",
        epilog="Commands:\n"
        + "".join(f"  {name:<12} {text}\n" for name, text in commands().items())
        + "\n`mmquad COMMAND --help` shows the options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mmquad {__version__}")
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        metavar="SHELL",
        help=f"print what completes commands and options in {', '.join(SHELLS)}",
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parsed = parser.parse_args(given)
    if parsed.completion:
        parsers = {name: command_parser(name) for name in commands()}
        print(completion_script(parsed.completion, parsers))
    elif parsed.command is None:
        parser.print_help()
    else:
        near = get_close_matches(parsed.command, known, n=1)
        parser.error(
            f"there is no command {parsed.command!r}"
            + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}")
        )


def run_script(name: str, script: str) -> None:
    """Run the command that a script of ``tools/`` stands for, under the script's name.

    Args:
        name: Of the command.
        script: Path of the script, relative to the repository.
    """
    _run(command_parser(name, f"python {script}"), sys.argv[1:])


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    parsed = parser.parse_args(arguments)
    parsed.given = list(arguments)  # for commands that start themselves again
    parsed.run(parsed)
