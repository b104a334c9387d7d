"""``python -m mmquad``: the same as ``mmquad``."""

from mmquad.cli.main import main

if __name__ == "__main__":
    main()
