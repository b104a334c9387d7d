"""Depthwise and pointwise convolutions as distributed training likes them."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DepthwiseConv2d", "PointwiseConv2d"]


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one filter per channel; the size of the map is divided by the stride, up.

    Maps in channels-last memory give a gradient of the weight in that format too. Where a dimension
    has size 1 both formats order the numbers alike, so that autograd keeps the gradient as it is,
    but its strides differ from the weight's: ``DistributedDataParallel`` warns, and copies it at
    every step. Here the gradient has the strides of the weight.

    Args:
        dim: Channels C.
        kernel_size: Odd side of the filters.
        stride: Distance of the filters.
        bias: Add one number per channel.

    Raises:
        ValueError: The side is even.
    """

    def __init__(self, dim: int, kernel_size: int, *, stride: int = 1, bias: bool = True) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the size of maps, got {kernel_size}")
        padding = kernel_size // 2
        super().__init__(dim, dim, kernel_size, stride, padding, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C, H', W']``."""
        weight = self.weight
        if weight.stride(1) != 1:  # not kept in channels-last memory itself
            # There and back: two views, through which the gradient comes as a matrix [C, taps].
            weight = weight.flatten(1).unflatten(1, weight.shape[1:])
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)


class PointwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` of 1 x 1, on channels-last maps: a linear layer of every token.

    It keeps a convolution's names, shapes and initial values; the gradient has the strides of the
    weight, which a convolution's of channels-last memory has not.

    Args:
        dim: Channels c.
        out_dim: Channels c'.
        bias: Add one number per channel.
    """

    def __init__(self, dim: int, out_dim: int, *, bias: bool = True) -> None:
        super().__init__(dim, out_dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, c] -> [B, H, W, c']``."""
        return F.linear(x, self.weight.flatten(1), self.bias)
