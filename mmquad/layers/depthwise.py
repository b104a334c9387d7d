"""Depthwise convolution as distributed training likes it."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DepthwiseConv2d"]


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one filter per channel that keeps the size of the map.

    Maps in channels-last memory give a gradient of the weight in that format too. Where a dimension
    has size 1 both formats order the numbers alike, so that autograd keeps the gradient as it is,
    but its strides differ from the weight's: ``DistributedDataParallel`` warns, and copies it at
    every step. Here the gradient has the strides of the weight.

    Args:
        dim: Channels C.
        kernel_size: Odd side of the filters.
        bias: Add one number per channel.

    Raises:
        ValueError: The side is even.
    """

    def __init__(self, dim: int, kernel_size: int, *, bias: bool = True) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the size of maps, got {kernel_size}")
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C, H, W]``."""
        weight = self.weight
        if weight.stride(1) != 1:  # not kept in channels-last memory itself
            # There and back: two views, through which the gradient comes as a matrix [C, taps].
            weight = weight.flatten(1).unflatten(1, weight.shape[1:])
        return F.conv2d(x, weight, self.bias, padding=self.padding, groups=self.groups)
