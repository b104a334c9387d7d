"""The selective scan: one equation, several backends."""

from mmquad.ops.costs import selective_scan_flops
from mmquad.ops.selective_scan.api import selective_scan, selective_scan_fn
from mmquad.ops.selective_scan.backends import BACKENDS
from mmquad.ops.selective_scan.reference import selective_scan_reference

__all__ = [
    "BACKENDS",
    "selective_scan",
    "selective_scan_flops",
    "selective_scan_fn",
    "selective_scan_reference",
]
