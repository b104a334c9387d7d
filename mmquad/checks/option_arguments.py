"""Finds options that name an argument which the class at that place of the config does not take."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from torch.utils.data import DataLoader

from mmquad.checks.policy import is_on, report

__all__ = ["check_option_arguments", "unknown_argument"]

# Read by mmengine on its way to the constructor.
_BUILDERS = {
    "_delete_",
    "_scope_",
    "by_epoch",
    "constructor",
    "convert_to_iter_based",
    "paramwise_cfg",
    "priority",
    "type",
}
_DATALOADER = set(inspect.signature(DataLoader.__init__).parameters) | {"num_batch_per_epoch"}
_OPTIM_CONSTRUCTOR = "DefaultOptimWrapperConstructor"
_DEFAULT_TYPES = {"optim_wrapper": "OptimWrapper", "val_cfg": "ValLoop", "test_cfg": "TestLoop"}


def check_option_arguments(
    cfg: Config, options: Iterable[str], warn: Callable[[str], object]
) -> None:
    """Look up the arguments that options name, where the config says of what they are arguments.

    Args:
        cfg: The config, with the options.
        options: Dotted keys.
        warn: Takes the text of a warning.

    Raises:
        SetupError: An option names no argument.
    """
    if not is_on("option-arguments"):
        return
    for option in options:
        if problem := unknown_argument(cfg, option):
            report("option-arguments", f"The option {option} does not fit: {problem}", warn)


def unknown_argument(cfg: Config, option: str) -> str | None:
    """Which word of a dotted key is no argument of the class it is given to, or None.

    Classes are found by ``type``. Where it is not registered, or takes ``**kwargs``, nothing is
    claimed.
    """
    words = option.split(".")
    node: Any = dict(cfg.items())
    for depth, word in enumerate(words):
        if isinstance(node, Mapping):
            path = ".".join(words[:depth])
            taken = _arguments(node, path, cfg.get("default_scope")) if path else None
            if taken is not None and word not in taken | _BUILDERS:
                close = get_close_matches(word, taken, n=1)
                kind = node.get("type") or path
                owner = getattr(kind, "__name__", kind)
                return f"{owner} takes no {word}" + (
                    f".\nWhat to do: {'.'.join([path, close[0], *words[depth + 1 :]])}?"
                    if close
                    else f"; it takes {', '.join(sorted(taken))}."
                )
            node = node.get(word)
        elif isinstance(node, list | tuple) and word.isdecimal() and int(word) < len(node):
            node = node[int(word)]
        else:
            return None
    return None


def _arguments(node: Mapping[str, Any], path: str, scope: str | None) -> set[str] | None:
    """Names of the arguments of what a part of a config is built into; None if not known."""
    if node.get("constructor", _OPTIM_CONSTRUCTOR) != _OPTIM_CONSTRUCTOR:
        return None  # others read what they like
    kind = node.get("type") or _DEFAULT_TYPES.get(path)
    if path == "train_cfg" and kind is None and "by_epoch" in node:
        kind = "EpochBasedTrainLoop" if node["by_epoch"] else "IterBasedTrainLoop"
    if kind is None:
        return _DATALOADER if path.endswith("_dataloader") else None
    found = [kind] if callable(kind) else _registered(str(kind), scope)
    names: set[str] = set()
    for each in found:
        try:
            parameters = inspect.signature(each).parameters.values()
        except (TypeError, ValueError):
            return None
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        names |= {p.name for p in parameters}
    return names or None


def _registered(name: str, scope: str | None) -> list[Any]:
    """What is registered under a name, of whatever kind: a model, a transform, a hook, ..."""
    with suppress(ImportError):
        importlib.import_module(f"{scope}.registry")
    found = []
    for root in vars(mmengine.registry).values():
        if isinstance(root, Registry):
            registry = root.children.get(scope, root)
            with suppress(RuntimeError):  # there is none
                if (each := registry.get(name)) is not None:
                    found.append(each)
    return found
