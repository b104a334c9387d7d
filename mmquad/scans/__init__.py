"""Two-dimensional grids as token sequences: the orders the backbones read images in."""

from mmquad.scans.atrous import AtrousScan
from mmquad.scans.base import FixedScan, Scan
from mmquad.scans.cache import table_cache
from mmquad.scans.cross import CrossScan
from mmquad.scans.local import LocalScan
from mmquad.scans.quad import QuadScan
from mmquad.scans.raster import RasterScan
from mmquad.scans.snake import SnakeScan

__all__ = [
    "AtrousScan",
    "CrossScan",
    "FixedScan",
    "LocalScan",
    "QuadScan",
    "RasterScan",
    "Scan",
    "SnakeScan",
    "table_cache",
]
