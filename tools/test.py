#!/usr/bin/env python
"""Test a checkpoint: the command `mmquad test`, for a checkout that is not installed."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("test", "tools/test.py")
