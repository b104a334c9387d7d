"""Stochastic depth."""

import pytest
import torch

from mmquad.layers import DropPath


def test_identity_in_evaluation_and_at_zero() -> None:
    x = torch.randn(4, 3, 3, 2)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    y = DropPath(0.25)(torch.ones(4000, 3, 2))
    per_sample = y.flatten(1)
    assert per_sample.eq(per_sample[:, :1]).all(), "a sample is kept or dropped as a whole"
    values = per_sample[:, 0].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.75]))
    assert abs(y.mean().item() - 1) < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert DropPath(0.5)(torch.ones(4, 2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("drop_prob", [-0.1, 1.0])
def test_probability_out_of_range(drop_prob: float) -> None:
    with pytest.raises(ValueError, match=r"drop_prob must be in \[0, 1\), got"):
        DropPath(drop_prob)
