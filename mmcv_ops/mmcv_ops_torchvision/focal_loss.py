"""Focal losses (Lin et al. 2017) and their gradients, element by element.

`weight` is empty, or has one factor per class, applied to the rows of that class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import operator

__all__ = [
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
]


def _wide(tensor: Tensor) -> Tensor:
    """At least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _row_weights(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """The factor of each row [N]; 1 for rows of no class."""
    factors = torch.ones_like(target, dtype=like.dtype)
    if weight.numel():
        known = (target >= 0) & (target < len(weight))
        factors[known] = weight.to(like)[target[known]]
    return factors


def _signed(input: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's -1 or 1, logit times it, and alpha_t, each [N, C]."""
    classes = torch.arange(input.shape[1], device=input.device)
    sign = (target[:, None] == classes).to(input) * 2 - 1
    return sign, sign * input, 0.5 + (alpha - 0.5) * sign


@operator
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """-alpha_t (1 - p_t)^gamma log(p_t) (equation 5), p the sigmoid of each logit.

    Args:
        input: Logits. [N, C]
        target: The class of each row; C, or anything that is no class, for background. [N] int64
        weight: [C] or empty.
        output: Written: [N, C].
        gamma: Focusing parameter.
        alpha: Of the positive elements; the negative ones have 1 - alpha.
    """
    logits = _wide(input)
    _, x, alpha_t = _signed(logits, target, alpha)
    loss = -alpha_t * torch.sigmoid(-x) ** gamma * F.logsigmoid(x)
    output.copy_(loss * _row_weights(weight, target, logits)[:, None])


@operator
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """The derivative (appendix B), written to `grad_input` [N, C].

    With x the logit times -1 or 1: -alpha_t (1 - p_t)^gamma (1 - p_t - gamma p_t log(p_t)).
    """
    logits = _wide(input)
    sign, x, alpha_t = _signed(logits, target, alpha)
    rest = torch.sigmoid(-x)
    slope = rest - gamma * torch.sigmoid(x) * F.logsigmoid(x)
    gradient = -sign * alpha_t * rest**gamma * slope
    grad_input.copy_(gradient * _row_weights(weight, target, logits)[:, None])


def _of_target(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows have a class, the column of each, and its probability, each [N]."""
    known = (target >= 0) & (target < softmax.shape[1])
    column = torch.where(known, target, 0)
    return known, column, softmax.gather(1, column[:, None])[:, 0]


@operator
def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """-alpha (1 - p)^gamma log(p), p the softmax probability of each row's class.

    Args:
        input: Probabilities, not logits. [N, C]
        target: The class of each row; rows without a class lose nothing. [N] int64
        weight: [C] or empty.
        output: Written: [N].
        gamma: Focusing parameter.
        alpha: A factor.
    """
    softmax = _wide(input)
    known, _, p = _of_target(softmax, target)
    # A probability may have underflowed to 0.
    log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
    loss = -alpha * (1 - p) ** gamma * log_p * _row_weights(weight, target, p)
    output.copy_(loss * known)


@operator
def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """The derivative by the logits behind `input`, written to `grad_input` [N, C].

    d loss / d x_c = alpha (1 - p)^gamma (gamma p log(p) / (1 - p) - 1) (delta_c - p_c). The part
    that does not depend on c is written to `buff` [N], as mmcv does.
    """
    softmax = _wide(input)
    known, column, p = _of_target(softmax, target)
    rest = 1 - p
    # p log(p) / (1 - p) tends to -1 as p tends to 1.
    ratio = torch.where(rest > 0, torch.xlogy(p, p) / rest, -torch.ones_like(p))
    common = alpha * rest**gamma * (gamma * ratio - 1) * _row_weights(weight, target, p) * known
    buff.copy_(common)
    difference = -softmax
    difference.scatter_add_(1, column[:, None], torch.ones_like(p)[:, None])
    grad_input.copy_(common[:, None] * difference)
