"""One layer's scan in one op: reorder tokens, project step sizes, scan every direction, merge."""

from mmquad.ops.directional_scan.api import directional_scan
from mmquad.ops.directional_scan.backends import BACKENDS

__all__ = ["BACKENDS", "directional_scan"]
