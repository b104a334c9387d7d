"""Channel attention over directions, and the weighted sum of the search network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.layers import DirectionAttention, DirectionSearch


def attended(layer: DirectionAttention, y: Tensor) -> Tensor:
    """One direction ``[L, D]``, term by term."""
    context = torch.stack([layer.norm(token) for token in y]).mean(0)
    hidden = F.gelu(layer.reduce.weight @ context + layer.reduce.bias)
    return y * torch.sigmoid(layer.expand.weight @ hidden + layer.expand.bias)


def random_layer(layer: DirectionAttention) -> DirectionAttention:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double()


def test_sum_of_attended_directions() -> None:
    torch.manual_seed(0)
    layer = random_layer(DirectionAttention(16))
    assert layer.reduce.out_features == 2, "an eighth of the channels"
    ys = torch.randn(2, 3, 5, 16, dtype=torch.float64)
    expected = torch.stack([sum(attended(layer, y) for y in sample) for sample in ys])
    torch.testing.assert_close(layer(ys), expected)


def test_search_weighs_normed_directions() -> None:
    torch.manual_seed(0)
    layer = random_layer(DirectionSearch(16, 3))
    ys = torch.randn(2, 3, 5, 16, dtype=torch.float64)
    chances = layer.alpha.exp() / layer.alpha.exp().sum()
    expected = torch.zeros(2, 5, 16, dtype=torch.float64)
    for b, sample in enumerate(ys):
        for chance, y in zip(chances, sample, strict=True):
            g = attended(layer, y)
            centred = g - g.mean(-1, keepdim=True)
            spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            expected[b] += chance * centred / spread
    torch.testing.assert_close(layer(ys), expected)


def test_search_starts_undecided() -> None:
    alpha = DirectionSearch(16, 8).alpha
    torch.testing.assert_close(alpha.softmax(0), torch.full((8,), 1 / 8), atol=2e-3, rtol=0)


def test_fewer_than_eight_channels() -> None:
    assert DirectionAttention(4)(torch.randn(1, 2, 3, 4)).shape == (1, 3, 4)
