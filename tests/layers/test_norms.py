"""Norms of tensors that are wider than the weights: computed in the wider dtype, rounded once."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mmquad.layers import BatchNorm2d, LayerNorm, RMSNorm

NORMS = {
    "layer": (LayerNorm, nn.LayerNorm, {"eps": 0.3}),
    "layer-without-bias": (LayerNorm, nn.LayerNorm, {"eps": 0.3, "bias": False}),
    "layer-without-weights": (LayerNorm, nn.LayerNorm, {"eps": 0.3, "elementwise_affine": False}),
    "rms": (RMSNorm, nn.RMSNorm, {"eps": 0.3}),
    "rms-default-eps": (RMSNorm, nn.RMSNorm, {}),
}
each_norm = pytest.mark.parametrize(("mine", "theirs", "settings"), NORMS.values(), ids=NORMS)


def tensor(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def with_random_weights(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn_like(parameter).bfloat16())  # rounding it changes nothing
    return norm


@each_norm
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_tensors_with_16_bit_weights(mine, theirs, settings, dtype) -> None:
    norm, reference = (with_random_weights(kind(6, **settings)) for kind in (mine, theirs))
    narrow = copy.deepcopy(norm).to(dtype)
    x, y = (tensor(5, 6).requires_grad_() for _ in range(2))
    expected = reference(x)
    result = narrow(y)
    weights = list(narrow.parameters())
    assert torch.equal(result, expected.to(dtype) if weights else expected)
    upstream = tensor(5, 6).to(result.dtype)
    expected.backward(upstream.float())
    result.backward(upstream)
    torch.testing.assert_close(y.grad, x.grad)
    for narrow_weight, weight in zip(weights, reference.parameters(), strict=True):
        torch.testing.assert_close(narrow_weight.grad, weight.grad.to(dtype))


@each_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_dtypes_are_left_to_pytorch(mine, theirs, settings, dtype) -> None:
    norm, reference = (
        with_random_weights(kind(6, **settings)).to(dtype) for kind in (mine, theirs)
    )
    x = tensor(5, 6).to(dtype)
    assert torch.equal(norm(x), reference(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.25, None])
def test_batch_norm_with_16_bit_weights_and_float32_statistics(training, momentum) -> None:
    norm, reference = (
        with_random_weights(kind(3, eps=0.3, momentum=momentum)).train(training)
        for kind in (BatchNorm2d, nn.BatchNorm2d)
    )
    for each in (norm, reference):
        each.running_mean.copy_(tensor(3))
        each.running_var.copy_(tensor(3).square())
    for name in ("weight", "bias"):  # as FSDP does: parameters only
        setattr(norm, name, nn.Parameter(getattr(norm, name).detach().bfloat16()))
    for i in range(3):
        x = (tensor(2, 3, 4, 5) + i).bfloat16()
        torch.testing.assert_close(norm(x).float(), reference(x.float()), atol=2e-2, rtol=2e-2)
    for (name, mine), theirs in zip(norm.named_buffers(), reference.buffers(), strict=True):
        assert mine.dtype == theirs.dtype, name
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_batch_norm_without_statistics() -> None:
    norm, reference = (kind(3, track_running_stats=False) for kind in (BatchNorm2d, nn.BatchNorm2d))
    x = tensor(2, 3, 4, 5)
    assert torch.equal(norm(x), reference(x))
