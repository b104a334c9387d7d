"""From the path of a config, and overrides, to a config that can be used."""

import inspect
import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmquad.checks.policy import report
from mmquad.compat import load_config
from mmquad.errors import SetupError

__all__ = ["LIBRARIES", "find_config", "library_of", "read_config", "shipped_configs"]

LIBRARIES = ("mmdet", "mmseg", "mmpretrain")

# What is read of a config beside the Runner's arguments.
_READ_BY_NAME = {
    "activation_checkpointing",
    "compile",
    "data_hint",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "strategy",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
}


def _log(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)


def read_config(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    warn: Callable[[str], object] = _log,
) -> Config:
    """A config of mmdet, mmseg or mmpretrain, changed by ``options``.

    Args:
        path: Path of the config, or the name of one of this package (:func:`find_config`).
        options: Dotted keys and their values, as of ``--cfg-options``.
        warn: Takes the text of a warning.

    Raises:
        SetupError: The config is absent or cannot be read, or an option does not fit it.
    """
    path = find_config(path)
    try:
        cfg = load_config(str(path))
    except ModuleNotFoundError as error:
        raise SetupError(
            f"{path} inherits from a library that is not installed: {error}\n"
            "What to do: `python -m mmquad.environment` says what is missing and how to install it."
        ) from error
    except (OSError, SyntaxError) as error:  # of a base too
        raise SetupError(f"The config {path} cannot be read: {error}") from error
    if options:
        _apply(cfg, options, warn)
    return cfg


def shipped_configs() -> Path:
    """The folder ``configs``, of the installed package or of the repository it is in."""
    package = Path(__file__).parents[1]
    installed = package / ".mim" / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(path: str | Path) -> Path:
    """The file that a path or a name means.

    Args:
        path: Path of a config; or the name of one of this package, its file's without ``.py``.
            A file of that path comes first.

    Raises:
        SetupError: There is neither.
    """
    if Path(path).is_file():
        return Path(path)
    leaves = sorted(shipped_configs().glob("*/[!_]*/*.py"))
    named = {leaf.stem: leaf for leaf in leaves}
    name = Path(path).name.removesuffix(".py")
    if len(Path(path).parts) == 1 and name in named:
        return named[name]
    near = get_close_matches(name, named, n=3)
    advice = (
        f"Of the configs of this package, near ones are {', '.join(near)}."
        if near
        else (f"The configs of this package are in {shipped_configs()}.")
    )
    raise SetupError(f"Config not found: {path} (relative to {Path.cwd()}). {advice}")


def library_of(cfg: Config) -> str:
    """The library that runs a config.

    Raises:
        SetupError: Its ``default_scope`` names none.
    """
    scope = cfg.get("default_scope")
    if scope not in LIBRARIES:
        raise SetupError(
            f"The config's default_scope must be one of {', '.join(LIBRARIES)}, got {scope!r}; it "
            f"names the library that runs {cfg.filename}."
        )
    return scope


def _apply(cfg: Config, options: Mapping[str, Any], warn: Callable[[str], object]) -> None:
    known = _READ_BY_NAME | set(inspect.signature(Runner.__init__).parameters)
    for name in options:
        first = name.split(".")[0]
        if first not in known:
            close = " or ".join(get_close_matches(first, known & set(cfg), n=1))
            what = (
                "is a variable of the config file, whose value is in other keys by now"
                if first in cfg
                else "is no key of the config" + f"; did you mean {close}?" * bool(close)
            )
            report(
                "unread-options",
                f"The option {name} may change nothing: {first} {what}.\n"
                f"What to do: nothing if your own code reads it (runner.cfg.{name}); otherwise "
                f"name the key that uses it, which begins with one of "
                f"{', '.join(sorted(known & set(cfg)))}.",
                warn,
            )
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError) as error:
        raise SetupError(
            f"The options {dict(options)} do not fit the config: {error.args[0]}"
        ) from error
