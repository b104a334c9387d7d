"""Backbones, registered in ``mmquad.registry.MODELS`` (``type='mmquad.<name>'`` in configs)."""

from mmquad.backbones.base import VisionBackbone
from mmquad.backbones.localvim import LocalVim
from mmquad.backbones.localvmamba import LocalVMamba
from mmquad.backbones.plainmamba import PlainMamba
from mmquad.backbones.quadmamba import QuadMamba
from mmquad.backbones.vim import Vim
from mmquad.backbones.vmamba import VMamba

__all__ = ["LocalVMamba", "LocalVim", "PlainMamba", "QuadMamba", "VMamba", "Vim", "VisionBackbone"]
