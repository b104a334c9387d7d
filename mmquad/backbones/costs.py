"""Counters of FLOPs that read a trace know PyTorch's own operators only: they are told of ours."""

import importlib
import sys

from mmquad.ops.costs import activation_handles, scan_handles

__all__ = ["announce_costs"]

MMENGINE = "mmengine.analysis.complexity_analysis"
FVCORE = "fvcore.nn.flop_count"


def announce_costs() -> None:
    """Have the scans counted by mmengine's counter, and by fvcore's if that is in use.

    Whoever constructs a backbone may count it next, with a tool that knows nothing of this package:
    the ``get_flops`` of mmdet, mmseg or mmpretrain. Handles that are there already stay.
    """
    importlib.import_module(MMENGINE)
    # Tables of handles by operator, with which every new counter begins.
    for module, table, ours in (
        (MMENGINE, "_DEFAULT_SUPPORTED_FLOP_OPS", scan_handles()),
        (MMENGINE, "_DEFAULT_SUPPORTED_ACT_OPS", activation_handles()),
        (FVCORE, "_DEFAULT_SUPPORTED_OPS", scan_handles()),
    ):
        theirs = getattr(sys.modules.get(module), table, None)
        if isinstance(theirs, dict):
            for name, handle in ours.items():
                theirs.setdefault(name, handle)
