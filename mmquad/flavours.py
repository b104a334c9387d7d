"""The two flavours of OpenMMLab, and which one is installed.

`onedl` (the maintained forks) and `openmmlab` (the originals) own the same import names; pip does
not know that they exclude each other.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "MMCV_OPERATORS",
    "MODULES",
    "WINDOWS",
    "Flavour",
    "Installed",
    "flavour",
    "flavour_of",
    "installed",
]

Flavour = Literal["onedl", "openmmlab", "none"]

# Import name -> distribution and the versions of it that mmquad is written for.
WINDOWS: dict[str, dict[str, tuple[str, str]]] = {
    "onedl": {
        "mmengine": ("onedl-mmengine", ">=0.10.12,<0.11"),
        "mmcv": ("onedl-mmcv", ">=2.3.6,<2.4"),
        "mmdet": ("onedl-mmdetection", ">=3.5.1,<4"),
        "mmseg": ("onedl-mmsegmentation", ">=1.4.2,<2"),
        "mmpretrain": ("onedl-mmpretrain", ">=1.3.6,<2"),
    },
    "openmmlab": {
        "mmengine": ("mmengine", "==0.10.7"),
        "mmcv": ("mmcv", "==2.1.0"),
        "mmdet": ("mmdet", "==3.3.0"),
        "mmseg": ("mmsegmentation", "==1.2.2"),
        "mmpretrain": ("mmpretrain", "==1.2.0"),
    },
}
MODULES = tuple(WINDOWS["onedl"])
# Puts one file into mmcv's folder: its operators. It is a guest there, no owner of the module.
MMCV_OPERATORS = "mmcv-ops-torchvision"


@dataclass(frozen=True)
class Installed:
    """The package metadata that the checks look at.

    Attributes:
        owners: Import name -> the distributions that contain it.
        versions: Distribution -> version.
    """

    owners: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, str]

    def owner(self, module: str) -> str | None:
        """The distribution that `module` comes from; the first one if there are several."""
        owners = self.owners.get(module, ())
        return owners[0] if owners else None


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> Installed:
    """Read the metadata of the running environment."""
    names = {
        _normalised(distribution.metadata["Name"]): distribution.version
        for distribution in importlib.metadata.distributions()
        # An interrupted pip leaves folders of metadata without any in them.
        if distribution.metadata["Name"]
    }
    owners = {
        module: {_normalised(name) for name in distributions if name}
        for module, distributions in importlib.metadata.packages_distributions().items()
    }
    # An editable installation lists none of its modules, so it is recognised by its name.
    for table in WINDOWS.values():
        for module, (distribution, _) in table.items():
            if distribution in names:
                owners.setdefault(module, set()).add(distribution)
    owned = {module: tuple(sorted(o - {MMCV_OPERATORS})) for module, o in owners.items()}
    return Installed({module: o for module, o in owned.items() if o}, names)


def flavour_of(module: str, distribution: str) -> Flavour:
    """Which flavour's ``module`` a distribution is."""
    for flavour in ("onedl", "openmmlab"):
        if WINDOWS[flavour][module][0] == distribution:
            return flavour  # type: ignore[return-value]
    # mmcv-lite and anything else that provides the module belongs to neither flavour.
    return "none"


def flavour(found: Installed | None = None) -> Flavour:
    """Which OpenMMLab is installed, judged by the first of its packages that is there.

    Example:
        >>> flavour(Installed({"mmengine": ("onedl-mmengine",)}, {"onedl-mmengine": "0.10.12"}))
        'onedl'
    """
    found = found or installed()
    for module in MODULES:
        for distribution in found.owners.get(module, ()):
            name = flavour_of(module, distribution)
            if name != "none":
                return name
    return "none"
