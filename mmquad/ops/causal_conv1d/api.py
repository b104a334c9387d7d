"""The public causal convolution."""

from torch import Tensor

from mmquad.ops.causal_conv1d.library import BACKENDS, run_causal_conv1d

__all__ = ["causal_conv1d"]


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: bool = True,
    reverse: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Depthwise convolution of tokens with the W - 1 before them, and SiLU, in one op.

    With ``x_t = 0`` outside the sequence (Mamba, arXiv:2312.00752, figure 3)::

        y_t = silu(sum_w weight[w] x_{t - (W - 1) + w} + bias)

    ``reverse`` reads the W - 1 tokens that follow instead, with the same taps mirrored: the result
    of flipping x, convolving, and flipping back, without the flips.

    Sums are in float32 (float64 for float64 tokens), also under autocast. The gradient keeps x
    only; it computes the sums again.

    Args:
        x: Tokens, channels last, ``[B, L, D]``.
        weight: Taps, the last one for the token itself, ``[D, W]``.
        bias: ``[D]``.
        activation: Apply SiLU.
        reverse: Look ahead instead of back.
        backend: Name of the implementation; see :mod:`mmquad.ops.backend`. A process-wide choice of
            a name that only the scans know leaves this op to choose by itself.

    Returns:
        ``[B, L, D]`` in the dtype of x.

    Raises:
        ValueError: A shape, dtype or device does not fit, or the chosen backend cannot run.

    Example:
        >>> import torch
        >>> from mmquad.ops import causal_conv1d
        >>> x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
        >>> taps = torch.tensor([[10.0, 1.0]])
        >>> causal_conv1d(x, taps, activation=False).flatten().tolist()
        [1.0, 12.0, 23.0]
        >>> causal_conv1d(x, taps, activation=False, reverse=True).flatten().tolist()
        [21.0, 32.0, 3.0]
    """
    _check(x, weight, bias)
    name = BACKENDS.select(backend, x=x, weight=weight, bias=bias)
    return run_causal_conv1d(x, weight, bias, activation, reverse, name)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if x.ndim != 3 or 0 in x.shape[1:]:
        raise ValueError(f"x must be [B, L, D] with L, D >= 1, got {tuple(x.shape)}")
    channels = x.shape[2]
    if weight.ndim != 2 or weight.shape[0] != channels or weight.shape[1] < 1:
        raise ValueError(
            f"weight must be [D, W] with D={channels}, W >= 1, got {tuple(weight.shape)}; "
            "squeeze the middle axis of a Conv1d's [D, 1, W]"
        )
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias must be [D]={(channels,)}, got {tuple(bias.shape)}")
    for name, tensor in {"x": x, "weight": weight, "bias": bias}.items():
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} must be real and floating point, got {tensor.dtype}")
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} must be on {x.device} like x, got {tensor.device}")
