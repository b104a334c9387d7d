"""Norms that take float32 sums in 16-bit models.

Scans and residual streams are float32 where the rest of a model may be float16 or bfloat16. PyTorch
has no norm of a float32 tensor with 16-bit weights; these compute in the wider of the two dtypes
and return the weights' own, in which the next layer reads. Where the dtypes are equal, and under
autocast, they are the norms they inherit from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchNorm2d", "LayerNorm", "MapBatchNorm", "RMSNorm"]


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, also with weights narrower than its statistics.

    FSDP casts parameters to ``param_dtype`` and leaves buffers as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if mean is None or self.weight.dtype == mean.dtype:
            return super().forward(input)
        factor = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # a cumulative average
                factor = 1 / float(self.num_batches_tracked)
        weight, bias = self.weight.to(mean.dtype), self.bias.to(mean.dtype)
        return F.batch_norm(input, mean, variance, weight, bias, self.training, factor, self.eps)


class MapBatchNorm(BatchNorm2d):
    """``BatchNorm2d`` of maps ``[B, H, W, C]``; the permutes are views of channels-last memory."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm``, also of tensors wider than its weights, whose dtype the result has."""

    def forward(self, input: Tensor) -> Tensor:
        if not _is_wider(input, self.weight):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        weight = self.weight.to(input.dtype)
        normed = F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)
        return normed.to(self.weight.dtype)


class RMSNorm(nn.RMSNorm):
    """``nn.RMSNorm``, also of tensors wider than its weights, whose dtype the result has."""

    def forward(self, x: Tensor) -> Tensor:
        if not _is_wider(x, self.weight):
            return super().forward(x)
        normed = F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return normed.to(self.weight.dtype)


def _is_wider(x: Tensor, weight: Tensor | None) -> bool:
    """Whether ``x`` is float32 (or float64) and ``weight`` is 16-bit (or float32)."""
    return weight is not None and torch.promote_types(x.dtype, weight.dtype) != weight.dtype
