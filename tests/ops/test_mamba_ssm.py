"""The backend that borrows mamba_ssm's kernel: what it says where it cannot run, and its results.

There is no such kernel without a GPU, so a stand-in computes what the kernel documents, refuses
what the kernel refuses, and has its signature.
"""

import importlib.metadata
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmquad import info
from mmquad.ops import selective_scan
from mmquad.ops.directional_scan import BACKENDS as FUSED_BACKENDS
from mmquad.ops.directional_scan.library import directional_scan_op
from mmquad.ops.selective_scan import BACKENDS, mamba_ssm
from mmquad.ops.selective_scan.library import selective_scan_op
from mmquad.ops.selective_scan.reference import (
    selective_scan_backward_reference,
    selective_scan_reference,
)
from mmquad.scans import CrossScan

NEEDS_GPU = "needs a CUDA GPU, torch sees none"


def check_kernel_inputs(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    """The conditions of the C++ entry point, except that tensors are on a GPU."""
    for tensor in (u, delta, B, C):
        assert tensor.dtype == torch.float32
        assert tensor.stride(-1) == 1 or tensor.shape[-1] == 1
    assert A.dtype == torch.float32
    assert B.ndim == C.ndim == 4


def fwd(u, delta, A, B, C, D, z, bias, softplus) -> list[Tensor]:
    """(arg0: Tensor, arg1: Tensor, arg2: Tensor, arg3: Tensor, arg4: Tensor, arg5: Tensor,
    arg6: Tensor, arg7: Tensor, arg8: bool) -> list[Tensor]"""
    check_kernel_inputs(u, delta, A, B, C)
    assert z is None
    y, last = selective_scan_reference(u, delta, A, B, C, D, bias, softplus)
    chunks = -(-u.shape[2] // mamba_ssm.CHUNK)
    states = u.new_full((*u.shape[:2], chunks, 2 * A.shape[1]), float("nan"))
    states[:, :, -1, 1::2] = last
    return [y, states]


def bwd(u, delta, A, B, C, D, z, bias, dy, x, out, dz, softplus, again) -> list[Tensor]:
    """(arg0: Tensor, arg1: Tensor, arg2: Tensor, arg3: Tensor, arg4: Tensor, arg5: Tensor,
    arg6: Tensor, arg7: Tensor, arg8: Tensor, arg9: Tensor, arg10: Tensor, arg11: Tensor,
    arg12: bool, arg13: bool) -> list[Tensor]"""
    check_kernel_inputs(u, delta, A, B, C)
    assert dy.stride(-1) == 1
    assert z is out is dz is None
    assert not again
    assert u.shape[2] <= mamba_ssm.CHUNK or x.is_contiguous()
    no_state = u.new_zeros(*u.shape[:2], A.shape[1])
    arguments = (u, delta, A, B, C, D, bias, softplus)
    return list(selective_scan_backward_reference(dy, no_state, *arguments))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module with the name and the functions of the compiled one."""
    module = types.ModuleType("selective_scan_cuda")
    module.fwd, module.bwd = fwd, bwd  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", module)
    mamba_ssm._import_problem.cache_clear()
    yield module
    mamba_ssm._import_problem.cache_clear()


def make_inputs(length: int) -> list:
    """The leaves; and u, delta, A, B, C as the op takes them: token-major, two groups."""
    generator = torch.Generator().manual_seed(length)
    shapes = [
        (2, length, 6),
        (2, length, 6),
        (6, 3),
        (2, length, 2, 3),
        (2, length, 2, 3),
        (6,),
        (6,),
    ]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[2] = -tensors[2].exp()
    u, delta, A, B, C, D, bias = (tensor.requires_grad_() for tensor in tensors)
    tokens = (u.transpose(1, 2), delta.transpose(1, 2))
    return [
        [u, delta, A, B, C, D, bias],
        [*tokens, A, B.permute(0, 2, 3, 1), C.permute(0, 2, 3, 1)],
    ]


@pytest.mark.parametrize("length", [1, 7, mamba_ssm.CHUNK + 3])
@pytest.mark.parametrize("with_skip", [True, False])
def test_output_and_gradients(kernel: types.ModuleType, length: int, with_skip: bool) -> None:
    leaves, tensors = make_inputs(length)
    skip, bias = leaves[5:] if with_skip else (None, None)
    leaves = leaves if with_skip else leaves[:5]
    found = []
    for backend in ("mamba_ssm", "chunked"):
        y, last = selective_scan_op(*tensors, skip, bias, True, torch.float32, backend)
        for loss in (y.sin().sum(), y.sin().sum() + last.cos().sum()):
            found.append([y, last, *torch.autograd.grad(loss, leaves, retain_graph=True)])
    for mine, theirs in zip(found[:2], found[2:], strict=True):
        for got, want in zip(mine, theirs, strict=True):
            assert (got - want).norm() <= 1e-5 * want.norm()


def test_half_precision_inputs_are_widened(kernel: types.ModuleType) -> None:
    _, (u, delta, A, B, C) = make_inputs(9)
    narrow = [tensor.detach().bfloat16() for tensor in (u, delta, A, B, C)]
    results = [
        selective_scan_op(*narrow, None, None, True, torch.float32, backend)[0]
        for backend in ("mamba_ssm", "reference")
    ]
    torch.testing.assert_close(*results)


def test_inside_the_fused_op(kernel: types.ModuleType) -> None:
    order, inverse = CrossScan().tables(3, 4, torch.device("cpu"))
    torch.manual_seed(0)
    shapes = (2, 12, 5), (2, 12, 4 * 7), (4, 5, 3), (4, 5), (4, 5, 2), (4, 5)
    leaves = [torch.randn(shape) for shape in shapes]
    leaves[4] = -leaves[4].exp()
    leaves = [leaf.requires_grad_() for leaf in leaves]
    found = []
    for backend in ("mamba_ssm", "chunked"):
        y, _ = directional_scan_op(*leaves, order, inverse, None, None, True, backend, True)
        found.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm()


def test_never_chosen_by_auto(kernel: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert BACKENDS["mamba_ssm"].unavailable() == []
    for backends in (BACKENDS, FUSED_BACKENDS):
        assert backends.names[-1] == "mamba_ssm"
    selective_scan(*(tensor.detach() for tensor in make_inputs(3)[1]))


def test_reasons_to_be_off(monkeypatch: pytest.MonkeyPatch, kernel: types.ModuleType) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mamba_ssm.mamba_ssm_unavailable() == [NEEDS_GPU]
    tensors = [tensor.detach() for tensor in make_inputs(3)[1]]
    with pytest.raises(ValueError, match=f"'mamba_ssm' was chosen explicitly.*{NEEDS_GPU}"):
        selective_scan(*tensors, backend="mamba_ssm")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    kernel.fwd = lambda: None  # type: ignore[attr-defined]
    kernel.fwd.__doc__ = "fwd(arg0: Tensor, arg1: bool, arg2: Optional[Tensor]) -> list[Tensor]"
    mamba_ssm._import_problem.cache_clear()
    (reason,) = mamba_ssm.mamba_ssm_unavailable()
    assert "fwd takes 3 arguments, expected 9: it is not that of a mamba_ssm release" in reason

    del kernel.fwd
    mamba_ssm._import_problem.cache_clear()
    assert "fwd takes 0 arguments" in mamba_ssm.mamba_ssm_unavailable()[0]


@pytest.mark.parametrize(
    ("version", "expected"),
    [(None, "mamba_ssm is not installed"), ("2.3.2", "mamba_ssm 2.3.2 was installed without its")],
)
def test_reasons_without_the_kernel(
    version: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> str:
        assert name == "mamba-ssm"
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)  # the import fails
    monkeypatch.setattr(importlib.metadata, "version", find)
    mamba_ssm._import_problem.cache_clear()
    assert mamba_ssm.mamba_ssm_unavailable()[0].startswith(expected)
    text = info.describe_backends([BACKENDS])
    assert expected in text
    assert "MAMBA_KEEP_CUDA_BUILD" in text
    mamba_ssm._import_problem.cache_clear()


def test_reason_for_a_kernel_of_another_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "selective_scan_cuda.py").write_text("raise ImportError('undefined symbol: _ZN3')")
    monkeypatch.syspath_prepend(tmp_path)
    mamba_ssm._import_problem.cache_clear()
    reason = mamba_ssm.mamba_ssm_unavailable()[0]
    assert "does not load with torch" in reason
    assert "undefined symbol: _ZN3" in reason
    mamba_ssm._import_problem.cache_clear()


def test_reasons_about_inputs() -> None:
    u, A = torch.empty(2, 6, 5), torch.empty(6, 3)
    assert mamba_ssm.mamba_ssm_unsupported(u=u, A=A) == ["runs on cuda, u is on cpu"]
    wide = torch.empty(6, 257)
    many = torch.empty(()).expand(2, 70000, 5)
    long = torch.empty(()).expand(2**10, 2**6, 2**16)
    for tensors, expected in (
        ((u.double(), A), "u is float64"),
        ((u, wide), "N must be at most 256, got 257"),
        ((many, A), "D must be at most 65535, got 70000"),
        ((long, A), r"fewer than 2\*\*32 elements"),
    ):
        reasons = mamba_ssm.mamba_ssm_unsupported(u=tensors[0], A=tensors[1])
        assert any(re.search(expected, reason) for reason in reasons), expected
    B, C = torch.empty(2, 6, 3, 5), torch.empty(2, 1, 3, 5)
    assert "as many groups, got 6 and 1" in mamba_ssm.mamba_ssm_unsupported(u=u, A=A, B=B, C=C)[-1]


@pytest.mark.gpu
@pytest.mark.skipif(
    bool(mamba_ssm.mamba_ssm_unavailable()), reason="; ".join(mamba_ssm.mamba_ssm_unavailable())
)
@pytest.mark.parametrize("length", [1, 49, 3136])
def test_installed_kernel(length: int) -> None:
    """The real one, where there is one, against the chunked scan."""
    leaves, _ = make_inputs(length)
    leaves = [leaf.detach().cuda().requires_grad_() for leaf in leaves]
    u, delta, A, B, C, D, bias = leaves
    found = []
    for backend in ("mamba_ssm", "chunked"):
        y = selective_scan(
            *(u.transpose(1, 2), delta.transpose(1, 2), A),
            *(B.permute(0, 2, 3, 1), C.permute(0, 2, 3, 1), D, bias, True),
            backend=backend,
        )
        found.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()
