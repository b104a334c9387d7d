"""Building blocks of the backbones, torch only."""

from mmquad.layers.drop_path import DropPath
from mmquad.layers.mixers import QuadMixer, ScanMixer
from mmquad.layers.mlp import MLP
from mmquad.layers.patch import ConvDownsample, ConvStem

__all__ = ["MLP", "ConvDownsample", "ConvStem", "DropPath", "QuadMixer", "ScanMixer"]
