"""The simple feature pyramid: strides, parameters of ViTDet's, gradients."""

import pytest
import torch

from mmquad.necks import SimpleFeaturePyramid


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_levels(size: tuple[int, int]) -> None:
    neck = SimpleFeaturePyramid(16, 8)
    outputs = neck((torch.zeros(2, 16, 1, 1), torch.randn(2, 16, *size)))
    height, width = size
    expected = [(4 * height, 4 * width), (2 * height, 2 * width), size]
    for _ in range(2):
        expected.append((-(-expected[-1][0] // 2), -(-expected[-1][1] // 2)))
    assert [tuple(y.shape) for y in outputs] == [(2, 8, *each) for each in expected]
    sum(y.square().sum() for y in outputs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_parameters_are_those_of_vitdet() -> None:
    """Counted by hand for C = 192: up-scalings, four 1x1 and 3x3 convolutions, their norms."""
    neck = SimpleFeaturePyramid(192, 256)
    scales = (192 * 96 * 4 + 96) + 2 * 96 + (96 * 48 * 4 + 48) + (192 * 96 * 4 + 96)
    levels = (48 + 96 + 192 + 192) * 256 + 4 * (256 * 256 * 9 + 2 * 2 * 256)
    assert sum(p.numel() for p in neck.parameters()) == scales + levels


def test_every_level_is_normed_over_its_channels() -> None:
    outputs = SimpleFeaturePyramid(16, 32)((torch.randn(1, 16, 4, 4),))
    for y in outputs:
        torch.testing.assert_close(y.mean(1), torch.zeros_like(y[:, 0]), atol=1e-5, rtol=0)
