"""mmcv's operators, served from torchvision and torch: mmdetection without compiling mmcv.

mmcv's Python part loads every operator from one module, `mmcv._ext`, which is normally a binary
compiled for one torch. This distribution puts a Python file in its place (`mmcv_ext.py`), so that
a pure-Python mmcv works with any torch that has a torchvision. Nothing here has to be imported.

`python -m mmcv_ops_torchvision` installs a pure-Python mmcv and says which operators are in use.
"""

__version__ = "0.1.0"
