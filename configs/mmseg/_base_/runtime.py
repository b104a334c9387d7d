"""mmseg's runtime; the order of the data survives a resumption."""

_base_ = ["mmseg::_base_/default_runtime.py", "../../_base_/training_hooks.py"]
