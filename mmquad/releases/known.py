"""The releases whose weights can be converted: which model they are for, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVim,
    LocalVMamba,
    MambaVision,
    PlainMamba,
    QuadMamba,
    SpatialMamba,
    Vim,
    VisionBackbone,
    VMamba,
)
from mmquad.backbones.efficientvmamba import EFFICIENTVMAMBA_ARCHS
from mmquad.backbones.groupmamba import GROUPMAMBA_ARCHS
from mmquad.backbones.localvim import LOCALVIM_ARCHS
from mmquad.backbones.localvmamba import LOCALVMAMBA_ARCHS
from mmquad.backbones.mambavision import MAMBAVISION_ARCHS
from mmquad.backbones.plainmamba import PLAINMAMBA_ARCHS
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS
from mmquad.backbones.spatialmamba import SPATIALMAMBA_ARCHS
from mmquad.backbones.vim import VIM_ARCHS
from mmquad.backbones.vmamba import VMAMBA_ARCHS
from mmquad.checkpoints.loading import CheckpointMismatchError
from mmquad.releases.efficientvmamba import convert_efficientvmamba, efficientvmamba_arch
from mmquad.releases.families import family_of
from mmquad.releases.groupmamba import convert_groupmamba, groupmamba_arch, groupmamba_output
from mmquad.releases.localmamba import convert_localvim, convert_localvmamba
from mmquad.releases.mambavision import convert_mambavision, mambavision_arch, mambavision_norm
from mmquad.releases.plainmamba import convert_plainmamba, plainmamba_arch
from mmquad.releases.quadmamba import convert_quadmamba, quadmamba_arch
from mmquad.releases.spatialmamba import convert_spatialmamba, spatialmamba_arch
from mmquad.releases.vim import convert_vim, vim_arch
from mmquad.releases.vmamba import convert_vmamba, vmamba_arch

__all__ = ["RELEASES", "Release", "release_of"]


@dataclass(frozen=True)
class Release:
    """How the weights of a release become those of a backbone here.

    Args:
        backbone: The class.
        archs: Its named architectures.
        convert: Released names and tensors to the backbone's, and ``head.fc``.
        arch: Reads the fields of an architecture from released shapes. None: shapes do not tell
            it, and whoever converts has to name one.
        settings: Arguments of the backbone that released weights need.
        told: Further arguments, which converted weights tell.
        licence: Of the weights, where it restricts what they may be used for.
    """

    backbone: type[VisionBackbone]
    archs: Mapping[str, Any]
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    arch: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    told: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda weights: {}
    licence: str = ""

    def build(self, **arguments: Any) -> VisionBackbone:
        """The backbone with ``arguments``, behaving as the release."""
        return self.backbone(**arguments, **self.settings)

    def arch_fields(self, weights: Mapping[str, Tensor], name: str | None) -> dict[str, Any]:
        """Fields of the architecture called ``name``, or else those that the weights tell.

        Raises:
            CheckpointMismatchError: There is no such name, or the weights do not tell.
        """
        if name is not None and name in self.archs:
            return self.archs[name]._asdict()
        if name is None and self.arch is not None:
            return self.arch(weights)
        model = self.backbone.__name__
        reason = (
            f"weights of {model} do not say in which directions they read images, and all lists "
            "of directions have the same shapes"
            if name is None
            else f"{model} has no architecture {name!r}"
        )
        raise CheckpointMismatchError(
            f"{reason}. Name the architecture that they were trained with, arch= (--arch): one of "
            f"{', '.join(self.archs)}."
        )

    def arch_name(self, fields: Mapping[str, Any]) -> str | None:
        """Name of the architecture with these fields, if it has one."""
        return next((name for name, a in self.archs.items() if a._asdict() == dict(fields)), None)


# By the names that family_of gives.
RELEASES = {
    "QuadMamba (released)": Release(
        QuadMamba, QUADMAMBA_ARCHS, convert_quadmamba, quadmamba_arch, {"quadtree": "released"}
    ),
    "LocalVMamba": Release(LocalVMamba, LOCALVMAMBA_ARCHS, convert_localvmamba, None),
    "LocalVim": Release(LocalVim, LOCALVIM_ARCHS, convert_localvim, None),
    "VMamba": Release(VMamba, VMAMBA_ARCHS, convert_vmamba, vmamba_arch),
    "Vim": Release(Vim, VIM_ARCHS, convert_vim, vim_arch),
    "PlainMamba": Release(
        PlainMamba, PLAINMAMBA_ARCHS, convert_plainmamba, plainmamba_arch, {"reading": "released"}
    ),
    "EfficientVMamba": Release(
        EfficientVMamba, EFFICIENTVMAMBA_ARCHS, convert_efficientvmamba, efficientvmamba_arch
    ),
    "SpatialMamba": Release(
        SpatialMamba, SPATIALMAMBA_ARCHS, convert_spatialmamba, spatialmamba_arch
    ),
    "GroupMamba": Release(
        GroupMamba, GROUPMAMBA_ARCHS, convert_groupmamba, groupmamba_arch, told=groupmamba_output
    ),
    "MambaVision": Release(
        MambaVision,
        MAMBAVISION_ARCHS,
        convert_mambavision,
        mambavision_arch,
        told=mambavision_norm,
        licence="CC-BY-NC-SA-4.0: non-commercial, and what is made from them keeps the licence",
    ),
}


def release_of(weights: Mapping[str, Tensor]) -> Release:
    """The release that a backbone's weights belong to.

    Raises:
        CheckpointMismatchError: None of those known here.
    """
    family = family_of(weights)
    if family in RELEASES:
        return RELEASES[family]
    what = f"These are weights of: {family}" if family else "The model is not known"
    advice = (
        "They have this package's names already: load them as they are"
        if family == "mmquad"
        else "expected names such as layers.0.blocks.0.op.A_logs or layers.0.mixer.A_log"
    )
    raise CheckpointMismatchError(
        f"not weights of a release that can be converted ({', '.join(RELEASES)}). {what}; "
        f"{advice}. The first names are {list(weights)[:6]}."
    )
