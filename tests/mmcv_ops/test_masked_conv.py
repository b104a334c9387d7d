"""Convolution at some positions only: against the whole convolution."""

import torch
import torch.nn.functional as F
from mmcv.ops import masked_conv2d


def test_it_is_the_convolution_where_the_mask_is_set_and_zero_elsewhere(served, random):
    x = torch.randn(1, 3, 6, 5, generator=random).mT.contiguous().mT
    weight, bias = torch.randn(4, 3, 3, 3, generator=random), torch.randn(4, generator=random)
    mask = (torch.rand(1, 6, 5, generator=random) < 0.4).float()
    expected = F.conv2d(x, weight, bias, padding=1) * mask
    torch.testing.assert_close(masked_conv2d(x, mask, weight, bias, 1), expected)
    assert not masked_conv2d(x, mask * 0, weight, bias, 1).any()


def test_a_kernel_that_is_not_square_with_padding_that_is_not(served, random):
    x = torch.randn(1, 2, 6, 5, generator=random)
    weight, bias = torch.randn(4, 2, 5, 1, generator=random), torch.zeros(4)
    found = masked_conv2d(x, torch.ones(1, 6, 5), weight, bias, (2, 0))
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=(2, 0)))
