"""Repairs of the OpenMMLab packages that this package needs, applied on request."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from packaging.version import Version

from mmquad.checkpoints.download import read_checkpoint_from
from mmquad.checkpoints.hub import HUB_SCHEME

__all__ = ["apply", "load_config", "register_loaders", "runner_checkpoint_globals"]


def apply() -> None:
    """Make config inheritance and checkpoints work with both flavours of OpenMMLab.

    Two repairs, each made only where it is needed, and an addition; calling this again is harmless.

    * The maintained forks: ``_base_ = 'mmseg::...'``. mmengine looks for a distribution named
      ``mmsegmentation``; the fork's is called ``onedl-mmsegmentation``, so every such config fails
      although ``mmseg`` is installed. A config cannot repair this itself: its ``custom_imports``
      run after its bases have been read.
    * The originals with torch >= 2.6: testing and resuming from a Runner checkpoint. torch then
      unpickles only what it knows to be harmless, and the log history in such a checkpoint is not
      on its list. The forks bring a list of their own.
    * :func:`register_loaders`.
    """
    register_loaders()
    if not _is_distribution("mmsegmentation"):
        # mmengine then looks for the importable module of that name
        MODULE2PACKAGE["mmseg"] = "mmseg"
    if _is_distribution("mmengine") and Version(torch.__version__) >= Version("2.6"):
        torch.serialization.add_safe_globals(runner_checkpoint_globals())


def register_loaders() -> None:
    """Have mmengine load weights from more places (``load_from``, tests, inferencers).

    ``*.safetensors``, files and URLs, which it would take for files of ``torch.save``; files of the
    hub, ``hf://owner/name/file``; and URLs with their checksum, ``#sha256=...``.
    """
    # Here, since importing the forks' runner changes torch's list of what is harmless.
    from mmengine.runner import CheckpointLoader

    # Patterns, not only prefixes: mmengine matches them as regular expressions.
    safetensors = [r"https?://.*\.safetensors(\?.*)?$", r".*\.safetensors$"]
    for addresses, loader in (
        (safetensors, load_from_safetensors),
        ([r"https?://.*#sha256="], load_from_checked_url),
        ([HUB_SCHEME], load_from_hub),
    ):
        CheckpointLoader.register_scheme(addresses, loader, force=True)


# mmengine's log makes the name of a loader of what comes after `load_from_`.
def load_from_safetensors(filename: str, map_location: Any = None) -> Any:
    """A loader of mmengine's ``CheckpointLoader``.

    Raises:
        CheckpointFileError: See :func:`mmquad.checkpoints.download.read_checkpoint_from`.
    """
    del map_location  # read on the CPU, weights are copied to where the model is
    return read_checkpoint_from(os.path.expanduser(filename), allowed=runner_checkpoint_globals())


def load_from_checked_url(filename: str, map_location: Any = None) -> Any:
    """As :func:`load_from_safetensors`."""
    return load_from_safetensors(filename, map_location)


def load_from_hub(filename: str, map_location: Any = None) -> Any:
    """As :func:`load_from_safetensors`."""
    return load_from_safetensors(filename, map_location)


def _is_distribution(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def runner_checkpoint_globals() -> list:
    """What the message hub of a Runner checkpoint is pickled from.

    ``getattr`` finds the methods of HistoryBuffer; torch calls nothing that is not on the list,
    so a checkpoint cannot run what it looks up with it.
    """
    scalar = np.float64(0).__reduce__()[0]
    array = np.zeros(1).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")]
    # numpy 2 renamed these functions, and checkpoints have the name of the numpy that wrote them.
    renamed = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
        for core in ("core", "_core")
    ]
    return [HistoryBuffer, np.ndarray, np.dtype, *dtypes, *renamed, slice, getattr]


def load_config(path: str) -> Config:
    """``Config.fromfile`` of a config that may inherit from mmdet, mmseg and mmpretrain.

    Example:
        >>> cfg = load_config("configs/mmseg/quadmamba/<name>.py")  # doctest: +SKIP
    """
    apply()
    return Config.fromfile(path)
