#!/usr/bin/env python
"""Train a model: the command `mmquad train`, for a checkout that is not installed."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("train", "tools/train.py")
