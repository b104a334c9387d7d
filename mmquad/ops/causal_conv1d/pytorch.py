"""The causal convolution as PyTorch's own convolution, on token-major memory without a copy.

``[B, L, D]`` is the channels-last memory of an image ``[B, D, 1, L]``. In that form oneDNN
convolves float32 depthwise on CPUs 2 to 3 times faster than a sum of W shifted products, and 2 to
4 times faster than ``conv1d``, which copies to channels first and back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["causal_conv1d_backward_pytorch", "causal_conv1d_pytorch"]


def causal_conv1d_pytorch(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool
) -> Tensor:
    """``[B, L, D]``, in float32 at least; see :func:`mmquad.ops.causal_conv1d`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    bias = None if bias is None else bias.to(dtype)
    y = _convolve(x.to(dtype), weight.to(dtype), bias, reverse)
    return F.silu(y) if activation else y


def causal_conv1d_backward_pytorch(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, weight, dy = x.to(dtype), weight.to(dtype), dy.to(dtype)
    if activation:
        sums = _convolve(x, weight, None if bias is None else bias.to(dtype), reverse)
        dy = torch.ops.aten.silu_backward(dy, sums)
    # What reads ahead of a token passes its gradient back, and the other way round.
    dx = _convolve(dy, weight, None, not reverse)
    return dx, _weight_gradient(dy, x, weight.shape[1], reverse), dy.sum((0, 1))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    length, width = x.shape[1], weight.shape[1]
    taps = weight.flip(1) if reverse else weight
    image = x.transpose(1, 2).unsqueeze(2)  # [B, L, D] -> [B, D, 1, L]
    # Padded at both ends, because padding one end alone would copy x.
    padded = F.conv2d(image, taps[:, None, None], bias, padding=(0, width - 1), groups=x.shape[2])
    start = width - 1 if reverse else 0
    return padded.squeeze(2).transpose(1, 2)[:, start : start + length]


def _weight_gradient(dy: Tensor, x: Tensor, width: int, reverse: bool) -> Tensor:
    """``[D, W]``: for each tap, the sum of dy times the token it was multiplied with."""
    length = x.shape[1]
    taps = []
    for w in range(width):
        shift = min(width - 1 - w, length)
        early, late = slice(0, length - shift), slice(shift, length)
        reads, writes = (late, early) if reverse else (early, late)
        taps.append((dy[:, writes] * x[:, reads]).sum((0, 1)))
    return torch.stack(taps, dim=1)
