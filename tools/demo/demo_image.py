#!/usr/bin/env python
"""Draw what a model finds in images: the command `mmquad predict`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("predict", "tools/demo/demo_image.py")
