"""Pure functions on tensors: selective scans, and the reorderings and convolution around them."""

from mmquad.ops.backend import use_backend
from mmquad.ops.causal_conv1d import causal_conv1d
from mmquad.ops.directional_scan import directional_scan
from mmquad.ops.selective_scan import selective_scan, selective_scan_fn

__all__ = [
    "causal_conv1d",
    "directional_scan",
    "selective_scan",
    "selective_scan_fn",
    "use_backend",
]
