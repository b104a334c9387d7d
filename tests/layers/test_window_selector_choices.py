"""Choosing several windows, and windows inside windows."""

import pytest
import torch
from cotangents import project
from torch import Tensor

from mmquad.layers import QuadMixer
from mmquad.layers.window_selector import WindowSelector
from mmquad.scans import QuadScan

SIXTEEN = QuadScan(coarse_level=2)
THREE = QuadScan((1, 1), levels=3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_selector(**settings) -> WindowSelector:
    """In eval mode, with weights large enough for scores to differ between windows."""
    selector = WindowSelector(8, **settings).double().eval()
    with torch.no_grad():
        for parameter in selector.parameters():
            parameter.normal_()
    return selector


def grid(batch: int, height: int = 8, width: int = 12) -> Tensor:
    return torch.randn(batch, height, width, 8, dtype=torch.float64)


@pytest.mark.parametrize("top_k", [1, 2, 3, 16])
def test_evaluation_takes_the_k_best(top_k: int) -> None:
    selector, x = make_selector(top_k=top_k), grid(8)
    state = torch.get_rng_state()
    weight = selector(x, SIXTEEN)
    assert torch.equal(torch.get_rng_state(), state), "evaluation must not draw random numbers"
    best = selector.window_scores(x, SIXTEEN).topk(top_k).indices
    assert torch.equal(weight, torch.zeros(8, 16).double().scatter(1, best, 1))


def test_training_samples_without_replacement() -> None:
    """The pair {a, b} has probability p_a p_b / (1 - p_a) + p_b p_a / (1 - p_b)."""
    selector, x = make_selector(top_k=2).train(), grid(1, 4, 4)
    with torch.no_grad():
        selector.head[-1].weight.mul_(0.02)
        p = selector.window_scores(x, QuadScan()).softmax(-1)[0]
        draws = selector(x.expand(4000, -1, -1, -1), QuadScan())
    assert draws.sum(-1).eq(2).all()
    assert draws.eq(0).logical_or(draws.eq(1)).all()
    ordered = p[:, None] * p / (1 - p)[:, None]
    expected = (ordered + ordered.t()).fill_diagonal_(0)
    found = (draws.t() @ draws / 4000).fill_diagonal_(0)
    assert expected.max() > 0.1
    # Five standard deviations of a frequency over 4000 draws.
    assert (found - expected).abs().max() < 5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("training", [True, False])
def test_gradient_is_that_of_the_softmaxes(training: bool) -> None:
    selector, x = make_selector(top_k=3).train(training), grid(5)
    upstream = torch.randn(5, 16, dtype=torch.float64)
    inputs = tuple(selector.parameters())
    torch.manual_seed(1)
    weight = selector(x, SIXTEEN)
    actual = torch.autograd.grad((weight * upstream).sum(), inputs)

    torch.manual_seed(1)
    scores = selector.window_scores(x, SIXTEEN)
    scores = scores + (-torch.empty_like(scores).exponential_().log() if training else 0)
    chosen = scores.topk(3).indices
    assert torch.equal(weight.nonzero()[:, 1].view(5, 3), chosen.sort().values)
    total = torch.zeros(())
    for k in range(3):
        left = scores.scatter(1, chosen[:, :k], -torch.inf)  # what the first k choices left
        total = total + (left.softmax(-1) * upstream).sum()
    for mine, theirs in zip(actual, torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().max() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scan", [QuadScan(), SIXTEEN, THREE], ids=["4", "16", "three levels"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 1), (2, 3), (5, 5)])
def test_small_grids_choose_what_there_is(size, scan: QuadScan, training: bool) -> None:
    selector = make_selector(top_k=3).train(training)
    x = grid(20, *size).requires_grad_()
    weight = selector(x, scan)
    tables = scan.tables(*size, x.device)
    coarse = weight[:, : scan.windows]
    assert coarse[:, ~tables.occupied].eq(0).all()
    assert coarse.sum(1).eq(min(3, int(tables.occupied.sum()))).all()
    if tables.fine is not None:
        parts = weight[:, scan.windows :]
        assert parts[:, ~tables.fine.occupied].eq(0).all()
        assert parts.unflatten(1, (-1, 4)).sum(-1).eq(1).all()
    project(weight).backward()
    assert x.grad.isfinite().all()


def test_three_levels_choose_the_best_part_of_every_window() -> None:
    selector, x = make_selector(), grid(6, 17, 24)
    weight = selector(x, THREE)
    assert torch.equal(weight[:, :4], selector(x, QuadScan((1, 1)))), "the coarse choice is as ever"
    tables = THREE.tables(17, 24, x.device)
    score = selector.score_map(x, tables)
    means = torch.stack(
        [score[:, tables.fine.window == window].mean(1) for window in range(16)], dim=1
    )
    best = means.view(6, 4, 4).argmax(-1)
    assert torch.equal(weight[:, 4:].view(6, 4, 4).argmax(-1), best)


def test_parts_of_chosen_windows_alone_get_a_gradient() -> None:
    selector, x = make_selector(), grid(6, 16, 16)
    weight = selector(x, THREE).detach().requires_grad_()
    y = THREE.to_grid(THREE.to_sequences(x, weight).sin().cumsum(1), weight, 16, 16)
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), weight)
    moved = gradient[:, 4:].view(6, 4, 4).abs().sum(-1) > 0
    assert torch.equal(moved, weight[:, :4] > 0.5)


def test_a_mixer_of_three_levels_from_the_whole_map_is_the_fused_one() -> None:
    """Three orders, masks and autograd against two orders in the fused op, same parameters."""
    fused = QuadMixer(8, 8, 1, QuadScan(), dt_rank=2).double().eval()
    three = QuadMixer(8, 8, 1, QuadScan(coarse_level=0, levels=3), dt_rank=2, use_context=False)
    three.double().eval().load_state_dict(fused.state_dict())
    fused.selector.use_context = False  # the context of one window is another one
    x = grid(3, 9, 12).requires_grad_()
    found = []
    for mixer in (three, fused):
        y = mixer(x)
        inputs = (x, *mixer.parameters())
        found.append((y, *torch.autograd.grad(project(y), inputs)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_impossible_choices() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        WindowSelector(8, top_k=0)
    with pytest.raises(ValueError, match="top_k must be at most the 4 windows, got 5"):
        QuadMixer(8, 8, 1, QuadScan(), top_k=5)
