"""Weights for images of some number of channels in a model for images of another number."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["IN_CHANNELS_ADAPTATIONS", "adapt_in_channels", "other_in_channels"]

IN_CHANNELS_ADAPTATIONS = ("sum", "repeat")


def other_in_channels(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the stem's convolutions that differ in the channels they read alone.

    Args:
        own: Names and tensors of the model.
        weights: Those of the checkpoint.
    """
    return [
        name
        for name, value in weights.items()
        if name.removeprefix("backbone.").startswith("stem.")
        and name in own
        and value.ndim == own[name].ndim == 4
        and value.shape[1] != own[name].shape[1]
        and (value.shape[0], *value.shape[2:]) == (own[name].shape[0], *own[name].shape[2:])
    ]


def adapt_in_channels(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], how: str
) -> dict[str, Tensor]:
    """Fit the first convolution of a checkpoint, of images of c channels, to a model that reads n.

    Either way the sum over channels stays what it was, or nearly so, and with it the size of what
    the next layer sees.

    Args:
        own: Names and tensors of the model.
        weights: Those of the checkpoint.
        how: ``'sum'``: every channel gets the sum of all c kernels, divided by n. For grey images,
            n = 1, the outputs are those that the image repeated c times would have.
            ``'repeat'``: channel i gets kernel ``i mod c``, times c / n. For images whose first
            channels are those of the checkpoint, such as RGB and infrared.

    Returns:
        The weights, unchanged where the numbers of channels are equal.

    Raises:
        ValueError: There is no such ``how``.
    """
    if how not in IN_CHANNELS_ADAPTATIONS:
        raise ValueError(f"adapt_in_channels must be one of {IN_CHANNELS_ADAPTATIONS}, got {how!r}")
    adapted = dict(weights)
    for name in other_in_channels(own, weights):
        kernel, channels = weights[name], own[name].shape[1]
        given = kernel.shape[1]
        if how == "sum":
            adapted[name] = (kernel.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1)
        else:
            which = torch.arange(channels, device=kernel.device) % given
            adapted[name] = kernel[:, which] * (given / channels)
    return adapted
