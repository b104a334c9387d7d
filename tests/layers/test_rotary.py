"""The rotary embedding of a grid: angles by hand, lengths kept, any size."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmquad.layers import rotate_grid


def test_angles_by_hand() -> None:
    """Eight channels: pairs turn by i and i / 100 (rows), j and j / 100 (columns)."""
    x = torch.zeros(1, 14, 14, 8, dtype=torch.float64)
    x[..., 0::2] = 1
    y = rotate_grid(x)[0]
    for i, j in [(0, 0), (1, 0), (0, 3), (13, 7)]:
        angles = torch.tensor([i, i / 100, j, j / 100], dtype=torch.float64)
        torch.testing.assert_close(y[i, j, 0::2], angles.cos())
        torch.testing.assert_close(y[i, j, 1::2], angles.sin())


@pytest.mark.parametrize(("height", "width"), [(14, 14), (5, 9), (1, 1), (28, 7)])
def test_a_map_of_any_size_spans_the_same_angles(height: int, width: int) -> None:
    x = torch.zeros(1, height, width, 4, dtype=torch.float64)
    x[..., 0::2] = 1
    y = rotate_grid(x, learned_side=14)[0]
    for i in range(height):
        assert y[i, 0, 0].item() == pytest.approx(math.cos(14 * i / height))
    for j in range(width):
        assert y[0, j, 3].item() == pytest.approx(math.sin(14 * j / width))


def test_lengths_do_not_change() -> None:
    """Unlike with interpolated tables, however often it is applied."""
    x = torch.randn(2, 25, 42, 16, dtype=torch.float64)
    y = x
    for _ in range(20):
        y = rotate_grid(y)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("size", [(5, 2), (3, 4), (3, 3)])
def test_interpolated_tables_are_those_of_the_release(size: tuple[int, int]) -> None:
    """Tables of cosines and sines, one entry per channel, resized as images are."""
    grid, channels, side = (3, 3), 8, 14
    x = torch.randn(2, *size, channels, dtype=torch.float64)
    angle = torch.zeros(1, channels, *grid, dtype=torch.float64)
    for c, frequency in enumerate([1, 1, 0.01, 0.01]):
        for i in range(3):
            angle[0, c, i] = i * side / 3 * frequency
            angle[0, c + 4, :, i] = i * side / 3 * frequency
    cos, sin = (
        F.interpolate(table, size=size, mode="bicubic").permute(0, 2, 3, 1)
        for table in (angle.cos(), angle.sin())
    )
    partner = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
    actual = rotate_grid(x, side, table_grid=grid)
    torch.testing.assert_close(actual, x * cos + partner * sin)
    assert torch.equal(actual, rotate_grid(x, side)) == (size == grid)


def test_channels_must_make_pairs_for_both_axes() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        rotate_grid(torch.zeros(1, 2, 2, 6))
