"""Repairs of the OpenMMLab packages that configs of this package need, applied on request."""

from importlib.metadata import PackageNotFoundError, version

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

__all__ = ["apply", "load_config"]


def apply() -> None:
    """Make ``_base_ = 'mmseg::...'`` work with the maintained forks. Calling it again is harmless.

    mmengine looks for a distribution named ``mmsegmentation``; the fork's is called
    ``onedl-mmsegmentation``, so every such config fails although ``mmseg`` is installed. A config
    cannot repair this itself: its ``custom_imports`` run after its bases have been read.
    """
    try:
        version("mmsegmentation")
    except PackageNotFoundError:
        # mmengine then looks for the importable module of that name
        MODULE2PACKAGE["mmseg"] = "mmseg"


def load_config(path: str) -> Config:
    """``Config.fromfile`` of a config that may inherit from mmdet, mmseg and mmpretrain.

    Example:
        >>> cfg = load_config("configs/mmseg/quadmamba/<name>.py")  # doctest: +SKIP
    """
    apply()
    return Config.fromfile(path)
