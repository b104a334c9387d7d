"""What a function computes, with the gradients."""

from collections.abc import Callable

import torch
from cotangents import random_cotangents


def cotangent(output: torch.Tensor) -> torch.Tensor:
    """A random direction: the same numbers in every dtype and on every device."""
    return random_cotangents([output.float().cpu()])[0].bfloat16().to(output)


def outputs_and_gradients(function: Callable, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of a random projection of it by every input."""
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    output = function(*inputs)
    found = torch.autograd.grad(output, inputs, cotangent(output), allow_unused=True)
    return [output.detach(), *found]
