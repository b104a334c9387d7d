"""Stems and downsampling between stages, on channels-last grids ``[B, H, W, C]``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.depthwise import DepthwiseConv2d, PointwiseConv2d
from mmquad.layers.norms import BatchNorm2d, MapBatchNorm
from mmquad.ops.sizes import surely

__all__ = [
    "BatchNormStem",
    "ConvDownsample",
    "ConvStem",
    "DeepConvStem",
    "DeepPatchEmbed",
    "ExpandedDownsample",
    "PatchEmbed",
    "PatchMerging",
    "ResidualStem",
    "conv_channels_last",
]


def conv_channels_last(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv`` on ``[B, H, W, C]``; the permutes are views of channels-last memory."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2: image ``[B, 3, H, W]`` to ``[B, ceil(H/4), ceil(W/4), C]``.

    Args:
        in_channels: Channels of the image.
        dim: C.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        # Channels-last memory once; from there on the permutes around convolutions move nothing.
        x = image.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(conv_channels_last(self.conv1, x)))
        return self.norm2(conv_channels_last(self.conv2, x))


class BatchNormStem(nn.Module):
    """Two 3x3 convolutions of stride 2, each with batch norm and ReLU: ``[B, ceil(H/4), ...]``.

    Args:
        in_channels: Channels of the image.
        hidden_dim: Channels between the two.
        dim: C.
        eps: Of the norms.
    """

    def __init__(self, in_channels: int, hidden_dim: int, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden_dim, 3, stride=2, padding=1, bias=False)
        self.norm1 = MapBatchNorm(hidden_dim, eps=eps)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden_dim, dim, 3, stride=2, padding=1, bias=False)
        self.norm2 = MapBatchNorm(dim, eps=eps)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(conv_channels_last(self.conv1, x)))
        return self.act(self.norm2(conv_channels_last(self.conv2, x)))


class ResidualStem(nn.Module):
    """Spatial-Mamba's: four 3x3 convolutions and a 1x1, batch norms: ``[B, ceil(H/4), ...]``.

    The second and the third convolution are a residual branch.

    Args:
        in_channels: Channels of the image.
        dim: C.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        half, wide = dim // 2, 4 * dim
        self.conv1 = nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False)
        self.norm1 = MapBatchNorm(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.norm2 = MapBatchNorm(half)
        self.conv3 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.norm3 = MapBatchNorm(half)
        self.conv4 = nn.Conv2d(half, wide, 3, stride=2, padding=1, bias=False)
        self.norm4 = MapBatchNorm(wide)
        self.conv5 = PointwiseConv2d(wide, dim, bias=False)
        self.norm5 = MapBatchNorm(dim)
        self.act = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(conv_channels_last(self.conv1, x)))
        branch = self.act(self.norm2(conv_channels_last(self.conv2, x)))
        x = x + self.norm3(conv_channels_last(self.conv3, branch))
        x = self.act(self.norm4(conv_channels_last(self.conv4, x)))
        return self.norm5(self.conv5(x))


class ExpandedDownsample(nn.Module):
    """Widened fourfold, 3x3 depthwise of stride 2, narrowed: ``[B, H, W, c] -> [..., c']``.

    Spatial-Mamba's, after MLLA: ReLU after the first two convolutions, batch norm after the last.

    Args:
        dim: c.
        out_dim: c'; there are ``4 c'`` channels in between.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.expand = PointwiseConv2d(dim, 4 * out_dim)
        self.conv = DepthwiseConv2d(4 * out_dim, 3, stride=2)
        self.act = nn.ReLU()
        self.reduce = PointwiseConv2d(4 * out_dim, out_dim)
        self.norm = MapBatchNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.expand(x))
        x = self.act(conv_channels_last(self.conv, x))
        return self.norm(self.reduce(x))


class ConvDownsample(nn.Module):
    """3x3 convolution of stride 2 and LayerNorm: ``[B, H, W, c] -> [B, ceil(H/2), ceil(W/2), c']``.

    Args:
        dim: c.
        out_dim: c'.
        bare: Neither norm nor bias.
    """

    def __init__(self, dim: int, out_dim: int, *, bare: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1, bias=not bare)
        self.norm = nn.Identity() if bare else nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_channels_last(self.conv, x))


class PatchEmbed(nn.Module):
    """One convolution over patches: image ``[B, c, H, W]`` to ``[B, H', W', C]``.

    With ``cover``, zeros are added at the bottom and the right as far as the last patch needs, so
    that every pixel is in one: ``H' = ceil((H - patch_size) / stride) + 1``, at least 1. Without,
    rows that fill no patch are left out, as VMamba's first version does; only images smaller than
    one patch are padded.

    Args:
        in_channels: c.
        dim: C.
        patch_size: Side of a patch.
        stride: Distance of patches; ``patch_size`` unless given.
        norm: Follow by LayerNorm.
        cover: See above.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        patch_size: int,
        stride: int | None = None,
        *,
        norm: bool = False,
        cover: bool = True,
    ) -> None:
        super().__init__()
        # Its own numbers: the convolution may come to be wrapped, by LoRA for instance.
        self.patch_size, self.stride, self.cover = patch_size, stride or patch_size, cover
        self.conv = nn.Conv2d(in_channels, dim, patch_size, stride=self.stride)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        padding = (0, self._lacking(width), 0, self._lacking(height))
        if not surely(padding[1] + padding[3] == 0):
            image = F.pad(image, padding)
        # [B, C, H', W'] -> [B, H', W', C]
        return self.norm(self.conv(image).permute(0, 2, 3, 1).contiguous())

    def _lacking(self, size: int) -> int:
        """Zeros to add along an axis of ``size`` pixels."""
        patch, stride = self.patch_size, self.stride
        if size < patch:
            return patch - size
        if not self.cover or surely((size - patch) % stride == 0):
            return 0
        # Of any size: fewer pixels than a stride are enough, and more than enough make no patch.
        return stride - 1 if torch.compiler.is_compiling() else -(size - patch) % stride


class DeepPatchEmbed(nn.Module):
    """Patches of convolved pixels (PlainMamba): image to ``[B, ceil(H/2s), ceil(W/2s), C]``.

    A 7x7 convolution of stride 2 and ``num_convs`` 3x3 ones, each with batch norm and ReLU, then
    patches of s x s of their outputs.

    Args:
        in_channels: Channels of the image.
        dim: C.
        patch_size: 2 s.
        num_convs: Number of 3x3 convolutions.
        hidden_dim: Channels of the convolutions.
    """

    def __init__(
        self, in_channels: int, dim: int, patch_size: int, num_convs: int, hidden_dim: int = 64
    ) -> None:
        super().__init__()
        self.convs = _convolved_pixels(in_channels, hidden_dim, num_convs)
        self.patches = PatchEmbed(hidden_dim, dim, patch_size // 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.patches(self.convs(image))


class DeepConvStem(nn.Module):
    """Overlapping patches of convolved pixels (GroupMamba): ``[B, ceil(H/4), ceil(W/4), C]``.

    A 7x7 convolution of stride 2 and two 3x3 ones, each with batch norm and ReLU, then one of
    stride 2 and LayerNorm.

    Args:
        in_channels: Channels of the image.
        hidden_dim: Channels of the first three.
        dim: C.
    """

    def __init__(self, in_channels: int, hidden_dim: int, dim: int) -> None:
        super().__init__()
        self.convs = _convolved_pixels(in_channels, hidden_dim, num_convs=2)
        self.patches = ConvDownsample(hidden_dim, dim)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 2, 3, 1).contiguous()
        return self.patches(conv_channels_last(self.convs, x))


def _convolved_pixels(in_channels: int, dim: int, num_convs: int) -> nn.Sequential:
    """``[B, c, H, W] -> [B, C, ceil(H/2), ceil(W/2)]``, then ``num_convs`` more of stride 1."""
    convs = nn.Sequential()
    for i in range(1 + num_convs):
        size, stride, channels = (3, 1, dim) if i else (7, 2, in_channels)
        conv = nn.Conv2d(channels, dim, size, stride, size // 2, bias=False)
        convs.extend([conv, BatchNorm2d(dim), nn.ReLU()])
    return convs


class PatchMerging(nn.Module):
    """2 x 2 tokens to one: ``[B, H, W, c] -> [B, ceil(H/2), ceil(W/2), c']``, zero-padded if odd.

    The four tokens are joined as in the original Swin Transformer: upper left, lower left, upper
    right, lower right. (``nn.Unfold``, hence mmdet's Swin, has another order.)

    Args:
        dim: c.
        out_dim: c'.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        if not surely(height % 2 + width % 2 == 0):
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        # [B, H, W, c] -> [B, H/2, row, W/2, column, c] -> [B, H/2, W/2, (column row c)]
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))
