"""The backends of the op, best first.

``forward(u, delta, A, B, C, D, delta_bias, delta_softplus) -> (y, last state)`` and
``backward(dy, dlast, <the same>) -> gradients`` of the first seven, all tensors in the accumulation
dtype. An initial state follows as an argument where one is given, and its gradient the others.
"""

from mmquad.ops.backend import Backend, BackendSet
from mmquad.ops.native import native_unavailable
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
from mmquad.ops.selective_scan.native import (
    native_unsupported,
    selective_scan_backward_native,
    selective_scan_native,
)
from mmquad.ops.selective_scan.reference import (
    selective_scan_backward_reference,
    selective_scan_reference,
)
from mmquad.ops.selective_scan.triton_scan import (
    selective_scan_backward_triton,
    selective_scan_triton,
    triton_unsupported,
)
from mmquad.ops.triton import interpreting, triton_unavailable

__all__ = ["BACKENDS"]


BACKENDS = BackendSet(
    "selective_scan",
    [
        Backend(
            name="native",
            priority=30,
            summary="C++ with SIMD and threads (kernels/), cpu",
            forward=selective_scan_native,
            backward=selective_scan_backward_native,
            unavailable=native_unavailable,
            unsupported=native_unsupported,
        ),
        Backend(
            name="triton",
            priority=20,
            summary="Triton, cuda and rocm, never run on a GPU yet",
            forward=selective_scan_triton,
            backward=selective_scan_backward_triton,
            unavailable=triton_unavailable,
            unsupported=triton_unsupported,
            only_by_name=interpreting,
        ),
        Backend(
            name="chunked",
            priority=10,
            summary="vectorised PyTorch, two-level chunks, any device",
            forward=selective_scan_chunked,
            backward=selective_scan_backward_chunked,
        ),
        Backend(
            name="reference",
            priority=0,
            summary="the equations token by token in PyTorch, any device; slow",
            forward=selective_scan_reference,
            backward=selective_scan_backward_reference,
        ),
        Backend(
            name="mamba_ssm",
            priority=-10,
            summary="CUDA kernel of the package of that name, on request only",
            forward=selective_scan_mamba_ssm,
            backward=selective_scan_backward_mamba_ssm,
            unavailable=mamba_ssm_unavailable,
            unsupported=mamba_ssm_unsupported,
        ),
    ],
)
