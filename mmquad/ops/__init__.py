"""Pure functions on tensors: the selective scan and the token reorderings around it."""

from mmquad.ops.backend import use_backend
from mmquad.ops.directional_scan import directional_scan
from mmquad.ops.selective_scan import selective_scan

__all__ = ["directional_scan", "selective_scan", "use_backend"]
