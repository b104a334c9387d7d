"""Backbones, registered in ``mmquad.registry.MODELS`` (``type='mmquad.<name>'`` in configs)."""

from mmquad.backbones.base import VisionBackbone
from mmquad.backbones.quadmamba import QuadMamba

__all__ = ["QuadMamba", "VisionBackbone"]
