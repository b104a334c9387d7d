"""Calling torchvision's compiled kernels from where mmcv calls its own."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "operator",
    "ready_for_kernel",
    "torchvision_kernel",
    "torchvision_version",
    "varying_gradients",
]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(none)"


def load_torchvision() -> Any:
    """The namespace of torchvision's operators.

    Raises:
        RuntimeError: torchvision is missing or was built for another torch. Not an ImportError:
            the OpenMMLab libraries catch those around `mmcv.ops` and go on to advise another mmcv.
    """
    try:
        import torchvision  # noqa: F401  defines the operators

        torch.ops.torchvision.nms  # noqa: B018  absent if the binary did not load
    except Exception as error:
        torch_version = _version("torch")
        minor = torch_version.split(".")[1]
        raise RuntimeError(
            f"torchvision {_version('torchvision')} does not fit torch {torch_version}, and mmcv's "
            "operators come from torchvision here (mmcv-ops-torchvision): "
            f"{type(error).__name__}: {error}\n"
            f"mmcv need not be reinstalled. Install torchvision 0.{int(minor) + 15}, which belongs "
            f"to torch 2.{minor}, from the place torch came from."
        ) from error
    return torch.ops.torchvision


TORCHVISION = load_torchvision()


def torchvision_version() -> str:
    """With the build: `0.26.0+cpu`."""
    import torchvision

    return torchvision.__version__


def torchvision_kernel(name: str, tensor: Tensor) -> Callable[..., Any]:
    """torchvision's operator `name`, for inputs that lie where `tensor` does.

    Raises:
        RuntimeError: `tensor` is on a GPU and torchvision was built for the CPU alone.
    """
    if tensor.is_cuda and torch.version.cuda and TORCHVISION._cuda_version() < 0:
        raise RuntimeError(
            f"torchvision {torchvision_version()} has no CUDA kernels, and mmcv's operators come "
            f"from it here: expected a torchvision built for CUDA {torch.version.cuda}, as torch "
            f"{torch.__version__} is. Install torchvision from the place torch came from."
        )
    return getattr(TORCHVISION, name)


def operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as mmcv expects an operator: plain arithmetic on the tensors it is given.

    mmcv wraps its operators in autograd functions of its own, which record gradients and choose
    dtypes. torchvision's would do both again: autograd would follow writes into outputs, and
    autocast would copy whole feature maps to float32.
    """

    @functools.wraps(function)
    def call(first: Tensor, *arguments: Any, **named: Any) -> Any:
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(first, *arguments, **named)

    return call


def ready_for_kernel(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one dtype that torchvision has kernels for.

    float16, float32 and float64 stay; bfloat16 becomes float32; of a mixture the widest wins.
    """
    dtype = functools.reduce(torch.promote_types, [tensor.dtype for tensor in tensors])
    if dtype == torch.bfloat16:
        dtype = torch.float32
    return [tensor.to(dtype) for tensor in tensors]


@contextlib.contextmanager
def varying_gradients(name: str, tensor: Tensor) -> Iterator[None]:
    """Let a gradient be summed up in whatever order the GPU does it, whatever is asked of torch.

    Under `torch.use_deterministic_algorithms`, which mmengine's `deterministic=True` turns on,
    torch's own kernels refuse to run where their sums depend on the order of threads. The compiled
    mmcv does not know that mode and runs; so do we, and say it.
    """
    mode = torch.get_deterministic_debug_mode()
    if not tensor.is_cuda or mode == 0:
        yield
        return
    warnings.warn(
        f"the gradient of {name} is not deterministic on CUDA; it is computed nevertheless, as by "
        "a compiled mmcv",
        stacklevel=2,
    )
    torch.set_deterministic_debug_mode(0)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
