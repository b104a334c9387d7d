"""The backend that borrows the causal_conv1d package: why it is off, and its results.

There is no such package without a GPU; a stand-in computes what it documents and refuses what it
refuses.
"""

import importlib
import importlib.metadata
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad import info
from mmquad.ops import causal_conv1d
from mmquad.ops.causal_conv1d import BACKENDS, package
from mmquad.ops.causal_conv1d.library import causal_conv1d_op

NEEDS_GPU = "needs a CUDA GPU, torch sees none"


class CausalConv1dFn:
    """The package's function: channels first ``[B, D, L]``, with its conditions on memory."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias=None, seq_idx=None, activation=None) -> Tensor:
        assert x.stride(1) == 1, "copied, had it been another layout"
        assert activation in (None, "silu")
        assert bias is None or bias.dtype == weight.dtype
        ctx.save_for_backward(x, weight, bias)
        ctx.activation = activation is not None
        return CausalConv1dFn.compute(x, weight, bias, ctx.activation)

    @staticmethod
    def backward(ctx, dout: Tensor) -> tuple:
        assert dout.stride(1) == 1
        activation = ctx.activation
        x, weight, *bias = (tensor for tensor in ctx.saved_tensors if tensor is not None)

        def again(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
            return CausalConv1dFn.compute(x, weight, bias[0] if bias else None, activation)

        _, pull_back = torch.func.vjp(again, x, weight, *bias)
        gradients = pull_back(dout)
        return (*gradients, *[None] * (8 - len(gradients)))

    @staticmethod
    def compute(x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool) -> Tensor:
        width = weight.shape[1]
        bias = None if bias is None else bias.float()
        padded = F.pad(x.float(), (width - 1, 0))
        y = F.conv1d(padded, weight.float()[:, None], bias, groups=x.shape[1])
        return (F.silu(y) if activation else y).to(x.dtype)


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    package._import_problem.cache_clear()
    yield
    package._import_problem.cache_clear()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    parent, interface = types.ModuleType("causal_conv1d"), types.ModuleType(package.INTERFACE)
    interface.CausalConv1dFn = CausalConv1dFn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "causal_conv1d", parent)
    monkeypatch.setitem(sys.modules, package.INTERFACE, interface)
    return interface


def set_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_output_and_gradients(
    installed: types.ModuleType, activation: bool, reverse: bool, with_bias: bool
) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(shape, requires_grad=True) for shape in ((2, 9, 8), (8, 4), (8,))]
    x, weight, bias = leaves
    if not with_bias:
        leaves, bias = leaves[:2], None
    found = []
    for backend in ("causal_conv1d", "pytorch"):
        y = causal_conv1d_op(x, weight, bias, activation, reverse, backend)
        found.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_bfloat16_tokens_and_a_split_view(installed: types.ModuleType) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 16).bfloat16()[..., :8]
    weight, bias = torch.randn(8, 3), torch.randn(8)
    results = [
        causal_conv1d_op(x, weight, bias, True, True, backend)
        for backend in ("causal_conv1d", "pytorch")
    ]
    torch.testing.assert_close(*results)


def test_available_yet_never_chosen_by_auto(
    installed: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert BACKENDS["causal_conv1d"].unavailable() == []
    assert BACKENDS.names[-1] == "causal_conv1d"


def test_reasons_to_be_off(installed: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert package.package_unavailable() == [NEEDS_GPU]
    x, weight = torch.randn(1, 3, 8), torch.randn(8, 4)
    with pytest.raises(ValueError, match=f"'causal_conv1d' was chosen explicitly.*{NEEDS_GPU}"):
        causal_conv1d(x, weight, backend="causal_conv1d")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    set_version(monkeypatch, "9.9")
    del installed.CausalConv1dFn
    package._import_problem.cache_clear()
    (reason,) = package.package_unavailable()
    assert reason.startswith("causal_conv1d 9.9 has no CausalConv1dFn, which 1.0 to 1.7 have")


def test_reason_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="causal_conv1d")

    monkeypatch.setattr(importlib, "import_module", missing)
    expected = "causal_conv1d is not installed: pip install"
    assert package.package_unavailable()[0].startswith(expected)
    assert expected in info.describe_backends([BACKENDS])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import causal_conv1d_cuda", "causal_conv1d 1.5 was installed without its CUDA part"),
        ("raise ImportError('undefined symbol: _ZN3')", "causal_conv1d 1.5 does not load with"),
    ],
)
def test_reasons_with_a_broken_package(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "causal_conv1d"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "causal_conv1d_interface.py").write_text(line)
    for name in ("causal_conv1d", package.INTERFACE):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    set_version(monkeypatch, "1.5")
    assert package.package_unavailable()[0].startswith(expected)
    sys.modules.pop("causal_conv1d", None)


def test_reasons_about_inputs() -> None:
    x, weight = torch.empty(1, 3, 12), torch.empty(12, 5)
    assert package.package_unsupported(x=x.double(), weight=weight) == [
        "runs on cuda, x is on cpu",
        "computes in float32, x is float64",
        "D must be a multiple of 8, got 12",
        "W must be 2, 3 or 4, got 5",
    ]
    assert "needs at least one sample" in package.package_unsupported(x=x[:0], weight=weight)
