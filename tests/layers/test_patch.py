"""Stem and downsampling: sizes, and equality with the plain NCHW computation."""

import pytest
import torch
from torch.nn import functional as F

from mmquad.layers import ConvDownsample, ConvStem

SIZES = [(1, 1), (2, 3), (4, 4), (33, 47), (5, 300)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stem_divides_by_four_rounding_up(height: int, width: int) -> None:
    y = ConvStem(3, 8)(torch.randn(2, 3, height, width))
    assert y.shape == (2, -(-height // 4), -(-width // 4), 8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_downsampling_divides_by_two_rounding_up(height: int, width: int) -> None:
    y = ConvDownsample(8, 12)(torch.randn(2, height, width, 8))
    assert y.shape == (2, -(-height // 2), -(-width // 2), 12)


def test_stem_is_conv_norm_gelu_conv_norm() -> None:
    stem, image = ConvStem(3, 8), torch.randn(2, 3, 13, 10)

    def norm_channels(x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        scale, shift = (p[:, None, None] for p in (norm.weight, norm.bias))
        return (x - mean) / (variance + norm.eps).sqrt() * scale + shift

    torch.nn.init.normal_(stem.norm1.weight)
    torch.nn.init.normal_(stem.norm2.bias)
    x = F.conv2d(image, stem.conv1.weight, stem.conv1.bias, stride=2, padding=1)
    x = F.gelu(norm_channels(x, stem.norm1))
    x = F.conv2d(x, stem.conv2.weight, stem.conv2.bias, stride=2, padding=1)
    expected = norm_channels(x, stem.norm2).permute(0, 2, 3, 1)
    torch.testing.assert_close(stem(image), expected, rtol=1e-4, atol=1e-5)
