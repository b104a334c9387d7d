"""What a function computes, with the gradients."""

from collections.abc import Callable

import torch


def outputs_and_gradients(function: Callable, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of a random projection of it by every input."""
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    output = function(*inputs)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    cotangent = cotangent.bfloat16()  # the same numbers in every dtype
    found = torch.autograd.grad(output, inputs, cotangent.to(output), allow_unused=True)
    return [output.detach(), *found]
