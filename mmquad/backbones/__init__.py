"""Backbones, registered in ``mmquad.registry.MODELS`` (``type='mmquad.<name>'`` in configs)."""

from mmquad.backbones.arguments import BackboneArguments
from mmquad.backbones.base import VisionBackbone
from mmquad.backbones.efficientvmamba import EfficientVMamba
from mmquad.backbones.fixed_windows import FixedWindowQuadMamba
from mmquad.backbones.groupmamba import GroupMamba
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.backbones.isotropic import IsotropicBackbone, SequenceBackbone
from mmquad.backbones.localvim import LocalVim
from mmquad.backbones.localvmamba import LocalVMamba
from mmquad.backbones.mambavision import MambaVision
from mmquad.backbones.plainmamba import PlainMamba
from mmquad.backbones.quadmamba import QuadMamba
from mmquad.backbones.spatialmamba import SpatialMamba
from mmquad.backbones.vim import Vim
from mmquad.backbones.vmamba import VMamba

__all__ = [
    "BackboneArguments",
    "EfficientVMamba",
    "FixedWindowQuadMamba",
    "GroupMamba",
    "HierarchicalBackbone",
    "IsotropicBackbone",
    "LocalVMamba",
    "LocalVim",
    "MambaVision",
    "PlainMamba",
    "QuadMamba",
    "SequenceBackbone",
    "SpatialMamba",
    "VMamba",
    "Vim",
    "VisionBackbone",
]
