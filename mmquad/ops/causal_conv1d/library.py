"""Registration with PyTorch: schema, shapes (fake), autograd; and the backends.

Two ops, ``mmquad::causal_conv1d`` and ``mmquad::causal_conv1d_backward``.
"""

import torch
from torch import Tensor

from mmquad.ops.backend import Backend, BackendSet
from mmquad.ops.causal_conv1d.package import (
    causal_conv1d_backward_package,
    causal_conv1d_package,
    package_unavailable,
    package_unsupported,
)
from mmquad.ops.causal_conv1d.pytorch import causal_conv1d_backward_pytorch, causal_conv1d_pytorch
from mmquad.ops.costs import register_flops
from mmquad.ops.differentiation import (
    define,
    differentiable,
    fake_of,
    first_derivatives_only,
)

__all__ = ["BACKENDS", "causal_conv1d_op", "run_causal_conv1d"]


# Models name a backend for their scans (native, chunked); the convolution need not have it.
BACKENDS = BackendSet(
    "causal_conv1d",
    [
        Backend(
            name="pytorch",
            priority=10,
            summary="one convolution on channels-last memory, any device",
            forward=causal_conv1d_pytorch,
            backward=causal_conv1d_backward_pytorch,
        ),
        Backend(
            name="causal_conv1d",
            priority=-10,
            summary="CUDA kernel of the package of that name, on request only",
            forward=causal_conv1d_package,
            backward=causal_conv1d_backward_package,
            unavailable=package_unavailable,
            unsupported=package_unsupported,
        ),
    ],
    must_have_choice=False,
)


@define("causal_conv1d")
def causal_conv1d_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool, backend: str
) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        y = BACKENDS[backend].forward(x, weight, bias, activation, reverse)
        return y.to(x.dtype).contiguous()


@fake_of(causal_conv1d_op)
def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool, backend: str
) -> Tensor:
    return x.new_empty(x.shape)


@define("causal_conv1d_backward")
def causal_conv1d_backward_op(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: bool,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; the last in the dtype of weight if there is no bias."""
    with torch.autocast(x.device.type, enabled=False):
        gradients = BACKENDS[backend].backward(dy, x, weight, bias, activation, reverse)
        templates = (x, weight, weight if bias is None else bias)
        return tuple(  # type: ignore[return-value]
            gradient.to(template.dtype).contiguous()
            for gradient, template in zip(gradients, templates, strict=True)
        )


@fake_of(causal_conv1d_backward_op)
def _backward_fake(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: bool,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    dbias = (weight if bias is None else bias).new_empty(weight.shape[0])
    return x.new_empty(x.shape), weight.new_empty(weight.shape), dbias


_run_backward = first_derivatives_only(causal_conv1d_backward_op)


def _setup_context(ctx, inputs, output) -> None:
    x, weight, bias, *ctx.options = inputs
    ctx.save_for_backward(x, weight, bias)


def _backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    dx, dweight, dbias = _run_backward(dy, x, weight, bias, *ctx.options)
    return dx, dweight, None if bias is None else dbias, None, None, None


run_causal_conv1d = differentiable(causal_conv1d_op, _setup_context, _backward)
register_flops(causal_conv1d_op, causal_conv1d_backward_op, upstream=1)
