"""Learned positions on any grid, and the class token in the middle."""

import pytest
import torch
from torch.nn import functional as F

from mmquad.layers import ClassToken, GridPositions
from mmquad.layers.positions import resize_grid


def test_positions_are_added_where_they_were_learned() -> None:
    positions = GridPositions(4, (3, 5))
    x = torch.randn(2, 3, 5, 4)
    assert torch.equal(positions(x), x + positions.table)


def test_other_grids_interpolate_bicubically() -> None:
    positions = GridPositions(4, (3, 5))
    expected = F.interpolate(
        positions.table.permute(0, 3, 1, 2), (7, 2), mode="bicubic", align_corners=False
    )
    actual = positions(torch.zeros(2, 7, 2, 4))
    torch.testing.assert_close(actual, expected.permute(0, 2, 3, 1).expand(2, -1, -1, -1))


@pytest.mark.parametrize("length", [1, 2, 5, 196, 729])
def test_class_token_is_in_the_middle(length: int) -> None:
    """At 98 of 196 patches, at 364 of 729: where Vim's released weights have it."""
    token = ClassToken(3)
    x = torch.randn(2, length, 3)
    y = token.insert(x)
    assert y.shape == (2, length + 1, 3)
    expected = (token.token + token.position)[0].expand(2, 3)
    assert torch.equal(y[:, length // 2], expected)
    assert torch.equal(token.take(y), expected)
    assert torch.equal(token.remove(y), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_interpolation_of_a_16_bit_table_rounds_once(dtype: torch.dtype) -> None:
    table = torch.randn(1, 5, 7, 6).to(dtype)
    assert torch.equal(resize_grid(table, 9, 4), resize_grid(table.float(), 9, 4).to(dtype))
