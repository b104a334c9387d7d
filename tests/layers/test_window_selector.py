"""The learned choice of a quadtree window."""

import pytest
import torch
from cotangents import project
from torch import Tensor
from torch.nn import functional as F

from mmquad.layers.window_selector import WindowSelector
from mmquad.scans import QuadScan
from mmquad.scans.quad import SHIFT_CYCLE


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_selector(dim: int = 8, **settings) -> WindowSelector:
    """In eval mode, with weights large enough for scores to differ between windows."""
    selector = WindowSelector(dim, **settings).double().eval()
    with torch.no_grad():
        for parameter in selector.parameters():
            parameter.normal_()
    return selector


def scores_by_the_paper(selector: WindowSelector, x: Tensor) -> Tensor:
    """Eq. 4-7 on an even grid, with pooling and interpolation from torch."""
    features = selector.embed(x)
    if selector.use_context:
        local, surrounding = features.chunk(2, dim=-1)
        pooled = F.adaptive_avg_pool2d(surrounding.permute(0, 3, 1, 2), 2)
        context = F.interpolate(pooled, size=x.shape[1:3], mode="bilinear", align_corners=False)
        features = torch.cat([local, context.permute(0, 2, 3, 1)], dim=-1)
    score = selector.head(features).log_softmax(-1)[..., 0]
    return F.adaptive_avg_pool2d(score[:, None], 2).flatten(1)


@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (4, 6), (10, 2)])
@pytest.mark.parametrize("dim", [8, 6])
def test_scores_follow_the_paper(dim: int, size: tuple[int, int], use_context: bool) -> None:
    selector = make_selector(dim, use_context=use_context)
    x = torch.randn(3, *size, dim, dtype=torch.float64)
    expected = scores_by_the_paper(selector, x)
    # The averaging tables are float32.
    torch.testing.assert_close(
        selector.window_scores(x, QuadScan()), expected, rtol=1e-6, atol=1e-6
    )


def test_context_adds_no_parameters_but_matters() -> None:
    with_context, without = WindowSelector(8), WindowSelector(8, use_context=False)
    without.load_state_dict(with_context.state_dict())
    x = torch.randn(2, 4, 4, 8)
    scores = [selector.window_scores(x, QuadScan()) for selector in (with_context, without)]
    assert not torch.allclose(*scores)


def test_evaluation_takes_the_best_score_without_noise() -> None:
    selector = make_selector()
    x = torch.randn(16, 8, 8, 8, dtype=torch.float64)
    state = torch.get_rng_state()
    weight = selector(x, QuadScan())
    assert torch.equal(torch.get_rng_state(), state), "evaluation must not draw random numbers"
    best = scores_by_the_paper(selector, x).argmax(-1)
    assert torch.equal(weight, F.one_hot(best, 4).double())
    assert len(best.unique()) > 1


def test_training_samples_from_the_softmax_of_the_scores() -> None:
    selector = make_selector().train()
    x = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        # Scores of order one, so that every window has a fair chance.
        selector.head[-1].weight.mul_(0.02)
        expected = selector.window_scores(x, QuadScan()).softmax(-1)[0]
        draws = selector(x.expand(4000, -1, -1, -1), QuadScan())
    assert draws.sum(-1).eq(1).all()
    assert draws.eq(0).logical_or(draws.eq(1)).all()
    assert expected.min() > 0.02
    # Five standard deviations of a frequency over 4000 draws.
    assert (draws.mean(0) - expected).abs().max() < 5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("training", [True, False])
def test_straight_through_gradient_is_that_of_the_softmax(training: bool) -> None:
    selector = make_selector().train(training)
    x = torch.randn(5, 4, 4, 8, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 4, dtype=torch.float64)
    torch.manual_seed(1)
    inputs = (x, *selector.parameters())
    actual = torch.autograd.grad((selector(x, QuadScan()) * upstream).sum(), inputs)

    torch.manual_seed(1)
    scores = selector.window_scores(x, QuadScan())
    noise = -torch.empty_like(scores).exponential_().log() if training else 0
    soft = (scores + noise).softmax(-1)
    expected = torch.autograd.grad((soft * upstream).sum(), inputs)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert all(gradient.abs().max() > 0 for gradient in actual)


def test_temperature_flattens_the_gradient_not_the_choice() -> None:
    sharp, flat = make_selector(temperature=1.0), make_selector(temperature=100.0)
    flat.load_state_dict(sharp.state_dict())
    x = torch.randn(2, 4, 4, 8, dtype=torch.float64)
    assert torch.equal(sharp(x, QuadScan()), flat(x, QuadScan()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("size", "possible"),
    [((1, 1), {0}), ((1, 6), {0, 1}), ((6, 1), {0, 2}), ((2, 2), {0, 1, 2, 3})],
)
def test_empty_windows_are_never_chosen(size, possible: set[int], training: bool) -> None:
    selector = make_selector().train(training)
    with torch.no_grad():
        selector.head[-1].weight.mul_(0.02)
    x = torch.randn(200, *size, 8, dtype=torch.float64, requires_grad=True)
    weight = selector(x, QuadScan((1, 1)))
    chosen = set(weight.argmax(-1).tolist())
    assert chosen <= possible
    if training:
        assert chosen == possible
    project(weight).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("shift", SHIFT_CYCLE)
@pytest.mark.parametrize("size", [(16, 24), (17, 9)])
def test_scores_move_with_the_shift(size: tuple[int, int], shift: tuple[int, int]) -> None:
    """A shifted scan sees the map that a plain scan sees after the roll."""
    selector, scan = make_selector(), QuadScan(shift)
    x = torch.randn(3, *size, 8, dtype=torch.float64)
    rolled = x.roll(scan.amounts(*size), (1, 2))
    shifted = selector.window_scores(x, scan)
    torch.testing.assert_close(shifted, selector.window_scores(rolled, QuadScan()))
    assert not torch.allclose(shifted, selector.window_scores(x, QuadScan()))


def test_released_scores_ignore_the_shift() -> None:
    selector = make_selector(use_context=False)
    x = torch.randn(3, 16, 16, 8, dtype=torch.float64)
    scan = QuadScan((1, 1), scores_follow_shift=False)
    assert torch.equal(selector.window_scores(x, scan), selector.window_scores(x, QuadScan()))


def test_autocast_scores_in_float32() -> None:
    selector = WindowSelector(8)
    x = torch.randn(3, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert selector.window_scores(x, QuadScan()).dtype == torch.float32
        weight = selector(x.bfloat16(), QuadScan())
    assert weight.sum(-1).eq(1).all()


def test_width_must_halve_twice() -> None:
    with pytest.raises(ValueError, match=r"dim must be at least 4, .*, got 3"):
        WindowSelector(3, use_context=False)
    with pytest.raises(ValueError, match=r"even with use_context .*, got 7"):
        WindowSelector(7)
    WindowSelector(7, use_context=False)
