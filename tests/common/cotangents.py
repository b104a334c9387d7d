"""Losses that see every value of an output.

The mean of the squares of a layer-normed map is constant up to the eps of the norm, and so is its
sum: their gradients are rounding noise. A fixed random direction has no such blind spot.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def random_cotangents(outputs: Iterable[Tensor], seed: int = 0) -> list[Tensor]:
    """One standard normal tensor per output, of its shape and dtype; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(y.shape, generator=generator).to(y) for y in outputs]


def project(outputs: Tensor | Iterable[Tensor], seed: int = 0) -> Tensor:
    """The inner product of all outputs with :func:`random_cotangents`: a scalar to derive."""
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return torch.stack(
        [(y * g).sum() for y, g in zip(outputs, random_cotangents(outputs, seed), strict=True)]
    ).sum()
