"""`python -m mmcv_ops_torchvision install onedl-mmcv==2.3.6`."""

import sys

from .install import main

sys.exit(main())
