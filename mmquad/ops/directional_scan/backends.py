"""The backends of the op, best first, and what each can do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmquad.ops.backend import Backend, BackendSet, no_reasons
from mmquad.ops.directional_scan.composed import Gradients, composed_backward, composed_forward
from mmquad.ops.directional_scan.cuda import (
    CHUNK as CUDA_CHUNK,
)
from mmquad.ops.directional_scan.cuda import (
    cuda_backward,
    cuda_forward,
    cuda_unavailable,
    cuda_unsupported,
)
from mmquad.ops.directional_scan.native import (
    native_backward,
    native_forward,
    native_unsupported,
)
from mmquad.ops.directional_scan.triton_scan import (
    triton_backward,
    triton_forward,
    triton_unsupported,
)
from mmquad.ops.native import CHUNK, native_unavailable
from mmquad.ops.selective_scan.chunked import (
    selective_scan_backward_chunked,
    selective_scan_chunked,
)
from mmquad.ops.selective_scan.mamba_ssm import (
    mamba_ssm_unavailable,
    mamba_ssm_unsupported,
    selective_scan_backward_mamba_ssm,
    selective_scan_mamba_ssm,
)
from mmquad.ops.selective_scan.reference import (
    selective_scan_backward_reference,
    selective_scan_reference,
)
from mmquad.ops.selective_scan.triton_launch import chunk_length
from mmquad.ops.triton import interpreting, triton_unavailable

__all__ = ["BACKENDS", "DirectionalBackend"]


@dataclass(frozen=True)
class DirectionalBackend(Backend):
    """A backend and the number of tokens between two saved states; 0: it saves none. Or a function
    of the number of positions that gives it.

    ``forward(x, z, dt_weight, dt_bias, A, D_skip, tables, merge, states) -> y`` fills ``states``
    unless it is empty; ``backward(dy, <the same>) -> Gradients``. An initial state follows where
    one is given. All but x are in the accumulation dtype. ``widens``: x must be, too.
    ``unsupported`` is asked with the tensors x, z, dt_weight, A, order, initial_state and with
    merge.
    """

    chunk: int | Callable[[int], int] = 0
    widens: bool = True

    def chunk_of(self, positions: int) -> int:
        return self.chunk(positions) if callable(self.chunk) else self.chunk


def _mamba_ssm_unsupported(**inputs: Any) -> list[str]:
    x, A, order = inputs["x"], inputs["A"], inputs["order"]
    shape = (x.shape[0], A.shape[0] * x.shape[2], order.shape[2])
    u = x.new_empty(()).expand(shape)
    return mamba_ssm_unsupported(u=u, A=A.flatten(0, 1), initial_state=inputs.get("initial_state"))


def _composed(
    name: str,
    priority: int,
    summary: str,
    scan: Callable[..., Any],
    scan_backward: Callable[..., Any],
    unavailable: Callable[[], list[str]] = no_reasons,
    unsupported: Callable[..., list[str]] = no_reasons,
) -> DirectionalBackend:
    # Without the states, which it neither saves nor reads.
    def forward(*arguments: Any) -> Tensor:
        return composed_forward(scan, *arguments[:8], *arguments[9:])

    def backward(*arguments: Any) -> Gradients:
        return composed_backward(scan, scan_backward, *arguments[:9], *arguments[10:])

    return DirectionalBackend(name, priority, summary, forward, backward, unavailable, unsupported)


BACKENDS = BackendSet(
    "directional_scan",
    [
        DirectionalBackend(
            name="native",
            priority=30,
            summary="C++ with SIMD and threads (kernels/), cpu",
            forward=native_forward,
            backward=native_backward,
            unavailable=native_unavailable,
            unsupported=native_unsupported,
            chunk=CHUNK,
            widens=False,
        ),
        DirectionalBackend(
            name="triton",
            priority=20,
            summary="Triton, cuda and rocm, never run on a GPU yet",
            forward=triton_forward,
            backward=triton_backward,
            unavailable=triton_unavailable,
            unsupported=triton_unsupported,
            only_by_name=interpreting,
            chunk=chunk_length,
            widens=False,
        ),
        # Below Triton until somebody has measured both.
        DirectionalBackend(
            name="cuda",
            priority=15,
            summary="CUDA C++ (kernels/, compiled by nvcc), never run on a GPU yet",
            forward=cuda_forward,
            backward=cuda_backward,
            unavailable=cuda_unavailable,
            unsupported=cuda_unsupported,
            chunk=CUDA_CHUNK,
            widens=False,
        ),
        _composed(
            "chunked",
            10,
            "vectorised PyTorch, two-level chunks, any device",
            selective_scan_chunked,
            selective_scan_backward_chunked,
        ),
        _composed(
            "reference",
            0,
            "the equations token by token in PyTorch, any device; slow",
            selective_scan_reference,
            selective_scan_backward_reference,
        ),
        _composed(
            "mamba_ssm",
            -10,
            "PyTorch around the CUDA kernel of the package of that name, on request only",
            selective_scan_mamba_ssm,
            selective_scan_backward_mamba_ssm,
            mamba_ssm_unavailable,
            _mamba_ssm_unsupported,
        ),
    ],
)
