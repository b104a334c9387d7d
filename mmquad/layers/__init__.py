"""Building blocks of the backbones, torch only."""

from mmquad.layers.bidirectional_mixer import BidirectionalMixer
from mmquad.layers.block import MixerBlock
from mmquad.layers.drop_path import DropPath
from mmquad.layers.mixers import QuadMixer, ScanMixer
from mmquad.layers.mlp import MLP
from mmquad.layers.patch import ConvDownsample, ConvStem, PatchEmbed, PatchMerging
from mmquad.layers.positions import ClassToken, GridPositions

__all__ = [
    "MLP",
    "BidirectionalMixer",
    "ClassToken",
    "ConvDownsample",
    "ConvStem",
    "DropPath",
    "GridPositions",
    "MixerBlock",
    "PatchEmbed",
    "PatchMerging",
    "QuadMixer",
    "ScanMixer",
]
