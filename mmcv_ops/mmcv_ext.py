"""mmcv's operators, served from torchvision and torch by mmcv-ops-torchvision.

A compiled mmcv puts its binary `_ext.<platform>.so` beside this file, and Python prefers it.
"""

from mmcv_ops_torchvision.extension import *  # noqa: F403
from mmcv_ops_torchvision.extension import __getattr__  # noqa: F401  operators that are not served
