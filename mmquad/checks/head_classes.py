"""Finds heads that were built for another number of classes than the data has.

It is a guess: which heads predict the classes of the data is nowhere written down. mmdet's own
``NumClassCheckHook`` makes the same guess, asserts it, and so refuses models whose heads differ by
design.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

__all__ = ["config_key", "unlike_heads"]

# Region proposals are of one class; semantic heads beside boxes have labels of their own
# (HTC, Panoptic FPN), and so have the detector and the re-identification of a tracker; the others
# only keep the number they were given.
_OTHER_CLASSES = (
    "rpn",
    "semantic_head",
    "detector",
    "reid",
    "data_preprocessor",
    "backbone",
    "neck",
    "teacher",
)
# Boundaries and other auxiliary targets, made by the head from the labels.
_OTHER_TYPES = ("STDCHead", "FusedSemanticHead")


def unlike_heads(model: nn.Module, metainfo: Mapping[str, Any]) -> dict[str, int]:
    """Modules whose ``num_classes`` is that of no set of classes of the data.

    Args:
        model: Without wrappers.
        metainfo: Of the data: ``classes``, maybe ``thing_classes`` and ``stuff_classes``.

    Returns:
        Their names in the model, with their numbers.
    """
    sets: list[Sequence[str]] = [
        metainfo.get(name) or () for name in ("classes", "thing_classes", "stuff_classes")
    ]
    counts = {len(each) for each in sets}
    return {
        name: module.num_classes
        for name, module in model.named_modules()
        if _is_number(getattr(module, "num_classes", None))
        and not any(part in name for part in _OTHER_CLASSES)
        and type(module).__name__ not in _OTHER_TYPES
        and "RPN" not in type(module).__name__  # a model may be proposals alone
        and module.num_classes not in counts
    }


def config_key(model: Any, name: str) -> str:
    """The key of a config that sets ``num_classes`` of a module, as far as the config names it.

    Args:
        model: ``model`` of the config.
        name: Of the module in the built model.
    """
    key, node = "model", model
    for part in name.split(".") if name else ():
        is_list = isinstance(node, list | tuple) and part.isdecimal() and int(part) < len(node)
        if is_list or (isinstance(node, Mapping) and part in node):
            node = node[int(part) if is_list else part]
            key += f".{part}"
        elif not part.isdecimal():  # a number: one setting for all of a list of modules
            break
    return f"{key}.num_classes"


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
