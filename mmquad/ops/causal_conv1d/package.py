"""The convolution of an installed `causal_conv1d` package: its CUDA kernel.

Called through the package's own autograd function, whose arguments by keyword have not changed
since 1.0, while those of its compiled functions have. Nobody has run this backend on a GPU yet;
tests run it with a stand-in for the package. It is never chosen by ``auto``: its gradients of
weight and bias are added up by atomics, so that they differ from run to run.
"""

import functools
import importlib
import importlib.metadata
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "causal_conv1d_backward_package",
    "causal_conv1d_package",
    "package_unavailable",
    "package_unsupported",
]

INSTALL = "pip install --no-build-isolation causal-conv1d (needs nvcc)"
INTERFACE = "causal_conv1d.causal_conv1d_interface"


class _Recorder:
    """What an autograd function's ``ctx`` is between its forward and its backward."""

    def __init__(self) -> None:
        self.saved_tensors: tuple[Tensor | None, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors


@functools.cache
def _import_problem() -> str | None:
    try:
        interface = importlib.import_module(INTERFACE)
    except ModuleNotFoundError as error:
        if error.name == "causal_conv1d":
            return f"causal_conv1d is not installed: {INSTALL}"
        return (
            f"causal_conv1d {_version()} was installed without its CUDA part (no module "
            f"{error.name}): {INSTALL}"
        )
    except (ImportError, OSError) as error:  # compiled for another torch or Python
        return (
            f"causal_conv1d {_version()} does not load with torch {torch.__version__} "
            f"({str(error)[:160]}): {INSTALL}"
        )
    if not hasattr(interface, "CausalConv1dFn"):
        return (
            f"causal_conv1d {_version()} has no CausalConv1dFn, which 1.0 to 1.7 have: "
            "install one of these"
        )
    return None


def _version() -> str:
    try:
        return importlib.metadata.version("causal-conv1d")
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def package_unavailable() -> list[str]:
    """Why the package cannot run on this machine."""
    reasons = [] if torch.cuda.is_available() else ["needs a CUDA GPU, torch sees none"]
    problem = _import_problem()
    return reasons if problem is None else [problem, *reasons]


# As in mmquad.ops.backend: torch.compile asks once and does not trace the import.
package_unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def package_unsupported(**inputs: Tensor | None) -> list[str]:
    """Why the package cannot run these inputs of :func:`mmquad.ops.causal_conv1d`."""
    x, weight = inputs["x"], inputs["weight"]
    assert x is not None
    assert weight is not None
    channels, width = weight.shape
    reasons = []
    if x.device.type != "cuda":
        reasons.append(f"runs on cuda, x is on {x.device}")
    if x.dtype == torch.float64:
        reasons.append("computes in float32, x is float64")
    if x.shape[0] == 0:
        reasons.append("needs at least one sample")
    if channels % 8:
        reasons.append(f"D must be a multiple of 8, got {channels}")
    if not 2 <= width <= 4:
        reasons.append(f"W must be 2, 3 or 4, got {width}")
    return reasons


def causal_conv1d_package(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool
) -> Tensor:
    """``[B, L, D]``; see :func:`mmquad.ops.causal_conv1d`."""
    y = _run(_Recorder(), x, weight, bias, activation, reverse)
    return y.flip(1) if reverse else y


def causal_conv1d_backward_package(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias (zero without one)."""
    context = _Recorder()
    _run(context, x, weight, bias, activation, reverse)
    upstream = (dy.flip(1) if reverse else dy.contiguous()).transpose(1, 2)
    dx, dweight, dbias, *_ = _function().backward(context, upstream)
    dx = dx.transpose(1, 2)
    if dbias is None:
        dbias = weight.new_zeros(weight.shape[0])
    return dx.flip(1) if reverse else dx, dweight, dbias


def _function() -> Any:
    return importlib.import_module(INTERFACE).CausalConv1dFn


def _run(
    context: _Recorder,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: bool,
    reverse: bool,
) -> Tensor:
    """The package's forward pass on tokens in the order it reads; channels stay last in memory."""
    tokens = x.flip(1) if reverse else x.contiguous()
    y = _function().forward(
        context,
        tokens.transpose(1, 2),
        weight.contiguous(),
        bias=None if bias is None else bias.to(weight.dtype).contiguous(),
        activation="silu" if activation else None,
    )
    return y.transpose(1, 2)
