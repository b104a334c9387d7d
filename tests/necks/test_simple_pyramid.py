"""ViTDet's simple pyramid: levels for anchors of strides 4 to 64 from one map of stride 16."""

import pytest
import torch
from cotangents import project
from torch.nn import functional as F

from mmquad.necks import SimpleFeaturePyramid
from mmquad.registry import MODELS


@pytest.mark.parametrize(("height", "width"), [(6, 10), (5, 7), (1, 1)])
def test_levels(height: int, width: int) -> None:
    neck = MODELS.build({"type": "mmquad.SimpleFeaturePyramid", "in_channels": 8})
    levels = neck([torch.zeros(1), torch.randn(2, 8, height, width)])
    shapes = [tuple(level.shape) for level in levels]
    half, quarter = (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))
    sizes = [(4 * height, 4 * width), (2 * height, 2 * width), (height, width), half, quarter]
    assert shapes == [(2, 256, *size) for size in sizes]
    project(levels).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_what_every_level_is_made_of() -> None:
    neck, x = SimpleFeaturePyramid(8, out_channels=4), torch.randn(2, 8, 5, 7)
    levels = neck([x])
    inputs = [neck.resize[0](x), neck.resize[1](x), x, F.max_pool2d(x, 2, ceil_mode=True)]
    for conv, given, level in zip(neck.convs, inputs, levels[:4], strict=True):
        torch.testing.assert_close(level, conv(given))
    assert torch.equal(levels[4], levels[3][..., ::2, ::2]), "every second pixel, not the largest"


def test_a_level_is_normed_over_channels_after_each_convolution() -> None:
    neck, x = SimpleFeaturePyramid(8, out_channels=4), torch.randn(2, 8, 5, 7)
    one, three = neck.convs[2][0].weight, neck.convs[2][2].weight

    def normed(y: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(y.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)

    expected = normed(F.conv2d(normed(F.conv2d(x, one)), three, padding=1))
    torch.testing.assert_close(neck([x])[2], expected, rtol=1e-4, atol=1e-5)
