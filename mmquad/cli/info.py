"""Print the backends of the scan, versions and threads, and what is wrong with them.

mmquad info
"""

import argparse

from mmquad.info import main


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> None:
    """Print; exit status 1 if every run would fail."""
    raise SystemExit(main())
