"""Stem and downsampling: sizes, and equality with the plain NCHW computation."""

import pytest
import torch
from torch.nn import functional as F

from mmquad.layers import ConvDownsample, ConvStem, DeepPatchEmbed, PatchEmbed, PatchMerging

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


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_patches_cover_every_pixel_or_leave_out_a_rest(height: int, width: int) -> None:
    image = torch.randn(2, 3, height, width)
    covering, cutting = PatchEmbed(3, 8, 4), PatchEmbed(3, 8, 4, norm=True, cover=False)
    assert covering(image).shape == (2, -(-height // 4), -(-width // 4), 8)
    assert cutting(image).shape == (2, max(height // 4, 1), max(width // 4, 1), 8)


@pytest.mark.parametrize(("size", "patches"), [(224, 27), (16, 1), (23, 2), (24, 2), (25, 3)])
def test_overlapping_patches(size: int, patches: int) -> None:
    """16 x 16 at stride 8: 27 x 27 of them on 224 x 224, as Vim's fine-tuned models have."""
    assert PatchEmbed(3, 4, 16, 8)(torch.zeros(1, 3, size, 16)).shape == (1, patches, 1, 4)


@pytest.mark.parametrize(("size", "patches"), [(7, 1), (8, 2), (11, 2), (12, 3), (15, 3), (3, 1)])
def test_patches_whose_side_is_no_multiple_of_their_distance(size: int, patches: int) -> None:
    assert PatchEmbed(3, 4, 7, 4)(torch.zeros(1, 3, 7, size)).shape == (1, 1, patches, 4)


def test_covering_patches_add_zeros_below_and_to_the_right() -> None:
    embed, image = PatchEmbed(3, 8, 4), torch.randn(1, 3, 6, 4)
    expected = F.conv2d(F.pad(image, (0, 0, 0, 2)), embed.conv.weight, embed.conv.bias, stride=4)
    torch.testing.assert_close(embed(image), expected.permute(0, 2, 3, 1))


def test_deep_patches_are_half_patches_of_convolved_pixels() -> None:
    embed, image = DeepPatchEmbed(3, 8, 16, num_convs=2, hidden_dim=4), torch.randn(2, 3, 33, 50)
    embed.eval()
    x = image
    for i, stride in ((0, 2), (3, 1), (6, 1)):
        weight = embed.convs[i].weight
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        x = F.relu(x / (1 + 1e-5) ** 0.5)  # fresh statistics: mean 0, variance 1
    assert x.shape == (2, 4, 17, 25)
    x = F.pad(x, (0, 7, 0, 7))
    expected = F.conv2d(x, embed.patches.conv.weight, embed.patches.conv.bias, stride=8)
    torch.testing.assert_close(embed(image), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_merging_joins_tokens_column_by_column() -> None:
    merging = PatchMerging(2, 3).double()
    torch.nn.init.normal_(merging.norm.weight)
    x = torch.randn(1, 3, 4, 2, dtype=torch.float64)
    padded = F.pad(x, (0, 0, 0, 0, 0, 1))
    # upper left, lower left, upper right, lower right
    corners = [padded[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    expected = F.linear(merging.norm(torch.cat(corners, dim=-1)), merging.reduction.weight)
    assert expected.shape == (1, 2, 2, 3)
    torch.testing.assert_close(merging(x), expected)
