"""Focal losses: against the paper's formula under autograd in float64."""

import pytest
import torch
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss
from outputs import outputs_and_gradients

CLASSES = 5
TARGET = torch.tensor([0, 4, 2, 5, 1, 5])  # 5 is the background
SETTINGS = [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9), (0.5, 0.25)]


def logits(random, dtype=torch.float64) -> torch.Tensor:
    return (3 * torch.randn(6, CLASSES, generator=random, dtype=torch.float64)).to(dtype)


def reference_sigmoid(x, weight, gamma, alpha) -> torch.Tensor:
    p = torch.sigmoid(x)
    positive = torch.nn.functional.one_hot(TARGET, CLASSES + 1)[:, :CLASSES].bool()
    p_t = torch.where(positive, p, 1 - p)
    alpha_t = torch.where(positive, alpha, 1 - alpha)
    rows = torch.cat([weight, torch.ones(1)])[TARGET]
    return -alpha_t * (1 - p_t) ** gamma * p_t.log() * rows[:, None]


def reference_softmax(x, target, weight, gamma, alpha) -> torch.Tensor:
    p = x.softmax(1).gather(1, target[:, None])[:, 0]
    return -alpha * (1 - p) ** gamma * p.log() * weight[target]


@pytest.mark.parametrize(("gamma", "alpha"), SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_sigmoid_focal_loss(served, random, gamma, alpha, weighted, dtype):
    x = logits(random, dtype)
    weight = torch.rand(CLASSES, generator=random).to(dtype) if weighted else None
    factors = weight.float() if weighted else torch.ones(CLASSES)
    found = outputs_and_gradients(
        lambda x: sigmoid_focal_loss(x, TARGET, gamma, alpha, weight, "none"), x
    )
    expected = outputs_and_gradients(
        lambda x: reference_sigmoid(x, factors, gamma, alpha), x.double()
    )
    torch.testing.assert_close(found, [each.to(dtype) for each in expected])


@pytest.mark.parametrize(("gamma", "alpha"), SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_softmax_focal_loss(served, random, gamma, alpha, weighted, dtype):
    x, target = logits(random, dtype), TARGET % CLASSES
    weight = torch.rand(CLASSES, generator=random).to(dtype) if weighted else None
    factors = weight.double() if weighted else torch.ones(CLASSES).double()
    # Row by row mmcv gives values alone: its gradient then fails on the shapes.
    rows = softmax_focal_loss(x, target, gamma, alpha, weight, "none")
    expected = reference_softmax(x.double(), target, factors, gamma, alpha)
    torch.testing.assert_close(rows, expected.to(dtype))
    found = outputs_and_gradients(
        lambda x: softmax_focal_loss(x, target, gamma, alpha, weight, "sum"), x
    )
    expected = outputs_and_gradients(
        lambda x: reference_softmax(x, target, factors, gamma, alpha).sum(), x.double()
    )
    torch.testing.assert_close(found, [each.to(dtype) for each in expected])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions_and_their_gradients(served, random, reduction):
    gamma, alpha = SETTINGS[0]
    x, target, ones = logits(random), TARGET % CLASSES, torch.ones(CLASSES).double()
    reduce = getattr(torch, reduction)
    found = outputs_and_gradients(
        lambda x: softmax_focal_loss(x, target, gamma, alpha, None, reduction), x
    )
    expected = outputs_and_gradients(
        lambda x: reduce(reference_softmax(x, target, ones, gamma, alpha)), x
    )
    torch.testing.assert_close(found, expected)
    found = outputs_and_gradients(
        lambda x: sigmoid_focal_loss(x, TARGET, gamma, alpha, None, reduction), x
    )
    # mmcv's mean is one over rows.
    expected = outputs_and_gradients(
        lambda x: (
            reference_sigmoid(x, ones, gamma, alpha).sum() / (len(x) if reduction == "mean" else 1)
        ),
        x,
    )
    torch.testing.assert_close(found, expected)


def test_rows_of_no_class_lose_nothing_by_softmax(served, random):
    x = logits(random).requires_grad_()
    target = torch.tensor([0, -1, 2, 5, 1, 9])
    loss = softmax_focal_loss(x, target, 2.0, 0.25, None, "sum")
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.any(1).tolist() == [True, False, True, False, True, False]
    known = softmax_focal_loss(x[[0, 2, 4]], target[[0, 2, 4]], 2.0, 0.25, None, "sum")
    torch.testing.assert_close(loss, known)


def test_extreme_logits_give_finite_losses_and_gradients(served):
    x = torch.tensor([[-200.0, 200.0], [200.0, -200.0]])
    target = torch.tensor([0, 0])
    for gamma in (0.0, 0.5, 2.0):
        loss, gradient = outputs_and_gradients(
            lambda x, g=gamma: sigmoid_focal_loss(x, target, g, 0.25, None, "none"), x
        )
        torch.testing.assert_close(loss, torch.tensor([[50.0, 150.0], [0.0, 0.0]]))
        assert gradient.isfinite().all()
        # The probability of the first row's class underflows; the second's is 1.
        loss, gradient = outputs_and_gradients(
            lambda x, g=gamma: softmax_focal_loss(x, target, g, 1.0, None, "sum"), x
        )
        assert 80 < loss < 90
        assert gradient.isfinite().all()


def test_no_rows(served):
    x, target = torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.long)
    assert sigmoid_focal_loss(x, target, 2.0, 0.25, None, "none").shape == (0, CLASSES)
