"""The depthwise convolution: torch's, whose weight gradient lies in memory as the weight."""

import copy

import pytest
import torch
from cotangents import random_cotangents
from torch import nn

from mmquad.layers import DepthwiseConv2d


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dim", "kernel_size", "size"), [(6, 3, (5, 8)), (1, 7, (9, 1))])
def test_is_torchs(dim: int, kernel_size: int, size: tuple, bias: bool, channels_last: bool):
    mine = DepthwiseConv2d(dim, kernel_size, bias=bias).double()
    theirs = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)
    theirs.double().load_state_dict(mine.state_dict())
    x = torch.randn(2, dim, *size, dtype=torch.float64, requires_grad=True)
    if channels_last:
        x = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    results = []
    for conv in (mine, theirs):
        y = conv(x)
        assert y.shape == x.shape
        leaves = (x, *conv.parameters())
        results.append((y, *torch.autograd.grad(y, leaves, random_cotangents([y]))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradient_has_the_strides_of_the_weight():
    """Also where the weight is kept in channels-last memory, and in a copy."""
    conv = DepthwiseConv2d(8, 3)
    twin = copy.deepcopy(conv)
    moved = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    assert moved.weight.stride() != conv.weight.stride()
    for each in (conv, twin, moved):
        x = torch.randn(2, 8, 5, 6).to(memory_format=torch.channels_last)
        y = each(x)
        y.backward(torch.randn_like(y))
        assert each.weight.grad.stride() == each.weight.stride()


def test_even_sides_are_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd to keep the size of maps, got 4"):
        DepthwiseConv2d(8, 4)
