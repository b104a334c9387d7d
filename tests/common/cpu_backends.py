"""Backends of an op as parameters of tests on a CPU."""

import pytest

from mmquad.ops.backend import BackendSet

__all__ = ["cpu_backends"]

# They run on GPUs only, or in the interpreter: tests of their own have these.
ON_GPUS = ("mamba_ssm", "triton", "cuda")


def cpu_backends(backends: BackendSet) -> list:
    """All by name; those that cannot run here are skipped with the reason they give."""
    return [
        pytest.param(
            backend.name,
            marks=pytest.mark.skipif(
                bool(backend.unavailable()), reason="; ".join(backend.unavailable())
            ),
        )
        for backend in backends
        if backend.name not in ON_GPUS
    ]
