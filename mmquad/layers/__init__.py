"""Building blocks of the backbones, torch only."""

from mmquad.layers.atrous_mixer import AtrousMixer, DualBlock, InvertedResidual
from mmquad.layers.bidirectional_mixer import BidirectionalMixer
from mmquad.layers.block import LayerScale, MixerBlock
from mmquad.layers.conv_block import ConvBlock
from mmquad.layers.depthwise import DepthwiseConv2d
from mmquad.layers.drop_path import DropPath
from mmquad.layers.group_mixer import ClassBlock, ConvMLP, GroupBlock, GroupMixer
from mmquad.layers.half_scan_mixer import HalfScanMixer, SelfAttention
from mmquad.layers.local_attention import DirectionAttention, DirectionSearch
from mmquad.layers.local_mixers import LocalMapMixer, LocalSequenceMixer
from mmquad.layers.mixers import QuadMixer, ScanMixer
from mmquad.layers.mlp import MLP
from mmquad.layers.norms import BatchNorm2d, LayerNorm, MapBatchNorm, RMSNorm
from mmquad.layers.patch import (
    BatchNormStem,
    ConvDownsample,
    ConvStem,
    DeepConvStem,
    DeepPatchEmbed,
    ExpandedDownsample,
    PatchEmbed,
    PatchMerging,
    ResidualStem,
)
from mmquad.layers.positions import ClassToken, GridPositions
from mmquad.layers.rotary import rotate_grid
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.layers.snake_mixer import SnakeMixer
from mmquad.layers.spatial_mixer import PositionedBlock, SpatialMixer, StateFusion
from mmquad.layers.weight_decay import exempt_from_decay, exempt_parameters

__all__ = [
    "MLP",
    "AtrousMixer",
    "BatchNorm2d",
    "BatchNormStem",
    "BidirectionalMixer",
    "ClassBlock",
    "ClassToken",
    "ConvBlock",
    "ConvDownsample",
    "ConvMLP",
    "ConvStem",
    "DeepConvStem",
    "DeepPatchEmbed",
    "DepthwiseConv2d",
    "DirectionAttention",
    "DirectionSearch",
    "DropPath",
    "DualBlock",
    "ExpandedDownsample",
    "GridPositions",
    "GroupBlock",
    "GroupMixer",
    "HalfScanMixer",
    "InvertedResidual",
    "LayerNorm",
    "LayerScale",
    "LocalMapMixer",
    "LocalSequenceMixer",
    "MapBatchNorm",
    "MixerBlock",
    "PatchEmbed",
    "PatchMerging",
    "PositionedBlock",
    "QuadMixer",
    "RMSNorm",
    "ResidualStem",
    "ScanMixer",
    "SelectiveSSM",
    "SelfAttention",
    "SnakeMixer",
    "SpatialMixer",
    "StateFusion",
    "exempt_from_decay",
    "exempt_parameters",
    "rotate_grid",
]
