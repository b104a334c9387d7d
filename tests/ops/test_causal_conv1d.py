"""The causal convolution: every backend, output and gradients, against ``nn.Conv1d``."""

import pytest
import torch
import torch.nn.functional as F
from cpu_backends import cpu_backends
from torch import Tensor

from mmquad.ops import causal_conv1d, use_backend
from mmquad.ops.causal_conv1d import BACKENDS
from mmquad.ops.causal_conv1d.library import causal_conv1d_backward_op, causal_conv1d_op

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


every_backend = pytest.mark.parametrize("backend", cpu_backends(BACKENDS))


def expected(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: bool, reverse: bool
) -> Tensor:
    """As Mamba's own code without its kernel: channels first, padded, cut; reversed by flips."""
    sequence = x.flip(1) if reverse else x
    width = weight.shape[1]
    y = F.conv1d(
        sequence.transpose(1, 2), weight[:, None], bias, padding=width - 1, groups=x.shape[2]
    )
    y = y[..., : x.shape[1]].transpose(1, 2)
    y = F.silu(y) if activation else y
    return y.flip(1) if reverse else y


def make_inputs(
    batch: int,
    length: int,
    channels: int,
    width: int,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = (batch, length, channels), (channels, width), (channels,)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [tensor.to(device, dtype).requires_grad_() for tensor in tensors]


@every_backend
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 49, 16, 4), (1, 1, 8, 4), (3, 2, 8, 3), (2, 7, 24, 2)])
def test_output_and_gradients(
    backend: str, shape: tuple, dtype: torch.dtype, reverse: bool
) -> None:
    device = "cuda" if backend == "causal_conv1d" else "cpu"
    inputs = make_inputs(*shape, dtype, device)
    if BACKENDS[backend].unsupported(**dict(zip(("x", "weight", "bias"), inputs, strict=True))):
        pytest.skip("the backend refuses this input")
    for activation in (True, False):
        for bias in (inputs[2], None):
            leaves = [*inputs[:2], *([] if bias is None else [bias])]
            exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
            y = causal_conv1d(*leaves[:2], bias, activation, reverse, backend=backend)
            want = expected(*exact[:2], None if bias is None else exact[2], activation, reverse)
            assert y.dtype == dtype
            assert y.is_contiguous()
            upstream = torch.randn_like(want)
            mine = [y, *torch.autograd.grad(y, leaves, upstream.to(dtype))]
            theirs = [want, *torch.autograd.grad(want, exact, upstream)]
            for got, true in zip(mine, theirs, strict=True):
                assert (got.double() - true).norm() <= TOLERANCE[dtype] * true.norm() + 1e-12


def test_width_beyond_the_sequence_and_of_one() -> None:
    for shape in ((1, 2, 8, 5), (2, 5, 3, 1)):
        x, weight, bias = make_inputs(*shape)
        for reverse in (False, True):
            y = causal_conv1d(x, weight, bias, reverse=reverse)
            torch.testing.assert_close(y, expected(x, weight, bias, True, reverse))
            torch.autograd.gradcheck(
                lambda *tensors, r=reverse: causal_conv1d(*tensors, reverse=r), (x, weight, bias)
            )


def test_empty_batch() -> None:
    x, weight, bias = make_inputs(0, 5, 8, 4)
    y = causal_conv1d(x, weight, bias)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 5, 8)
    assert weight.grad.eq(0).all()


def test_causality() -> None:
    x, weight, bias = (tensor.detach() for tensor in make_inputs(1, 9, 4, 4))
    changed = x.clone()
    changed[:, 4] += 1
    for reverse, differing in ((False, [4, 5, 6, 7]), (True, [1, 2, 3, 4])):
        difference = causal_conv1d(changed, weight, bias, reverse=reverse) - causal_conv1d(
            x, weight, bias, reverse=reverse
        )
        assert difference.abs().sum((0, 2)).nonzero().flatten().tolist() == differing


def test_token_views_and_autocast() -> None:
    x, weight, bias = (tensor.detach().float() for tensor in make_inputs(2, 9, 8, 4))
    want = causal_conv1d(x, weight, bias)
    half = torch.cat([x, x + 1], dim=2)[..., :8]  # what a split in_proj hands over
    assert not half.is_contiguous()
    torch.testing.assert_close(causal_conv1d(half, weight, bias), want)
    with torch.autocast("cpu", torch.bfloat16):
        y = causal_conv1d(x, weight, bias)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, want, rtol=0, atol=0)


def test_registration() -> None:
    for reverse in (False, True):
        x, weight, bias = make_inputs(2, 5, 4, 3)
        torch.library.opcheck(causal_conv1d_op, (x, weight, bias, True, reverse, "pytorch"))
        torch.library.opcheck(causal_conv1d_op, (x, weight, None, False, reverse, "pytorch"))
        arguments = (x, x, weight, bias, True, reverse, "pytorch")
        torch.library.opcheck(
            causal_conv1d_backward_op,
            tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments),
        )


def test_other_ops_backends_leave_it_to_itself() -> None:
    x, weight, bias = make_inputs(1, 3, 2, 2)
    with use_backend("reference"):
        causal_conv1d(x, weight, bias)
    with pytest.raises(ValueError, match="causal_conv1d has no backend 'reference'"):
        causal_conv1d(x, weight, bias, backend="reference")


def test_errors() -> None:
    x, weight, bias = make_inputs(1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"x must be \[B, L, D\]"):
        causal_conv1d(x[0], weight, bias)
    with pytest.raises(ValueError, match=r"with L, D >= 1, got \(1, 0, 2\)"):
        causal_conv1d(x[:, :0], weight, bias)
    with pytest.raises(ValueError, match="squeeze the middle axis"):
        causal_conv1d(x, weight[:, None], bias)
    with pytest.raises(ValueError, match=r"bias must be \[D\]=\(2,\), got \(1,\)"):
        causal_conv1d(x, weight, bias[:1])
    with pytest.raises(ValueError, match="weight must be real and floating point"):
        causal_conv1d(x, weight.long(), bias)
    with pytest.raises(ValueError, match="bias must be on cpu"):
        causal_conv1d(x, weight, bias.to("meta"))
