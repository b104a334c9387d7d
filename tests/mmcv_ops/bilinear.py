"""Bilinear sampling as the papers define it, from which the references are built."""

import torch


def sample(features: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values of [C, H, W] at the places `y`, `x` [...], zero outside: [C, ...].

    The sum over all pixels of max(0, 1 - |distance down|) max(0, 1 - |distance across|) times
    the pixel (Dai et al. 2017, equation 3).
    """
    rows = torch.arange(features.shape[1]).to(features)
    columns = torch.arange(features.shape[2]).to(features)
    down = (1 - (y[..., None] - rows).abs()).clamp(min=0)
    across = (1 - (x[..., None] - columns).abs()).clamp(min=0)
    return torch.einsum("chw,...h,...w->c...", features, down, across)
