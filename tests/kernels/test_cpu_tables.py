"""What the CPU kernels must not take as it comes: they use tables as addresses."""

import pytest
import torch
from torch import Tensor

from mmquad.ops import directional_scan, selective_scan
from mmquad.ops.native import native_unavailable

pytestmark = pytest.mark.skipif(bool(native_unavailable()), reason="; ".join(native_unavailable()))


def scan(order: Tensor, window: Tensor | None = None, length: int = 6, batch: int = 2) -> Tensor:
    """Orders ``[S, K, P]``; nothing but them and the window matters."""
    directions = order.shape[1]
    ones = torch.ones(directions, 3)
    inverse = torch.zeros(*order.shape[:2], length, dtype=torch.int64)
    weight = None if window is None else torch.eye(2)[:batch].requires_grad_()
    return directional_scan(
        torch.ones(batch, length, 3),
        torch.ones(batch, length, directions * 3),
        *(ones[..., None], ones, -ones[..., None], ones, order, inverse, window, weight),
        backend="native",
    )


def orders(*changes: tuple[int, int], positions: int = 6) -> Tensor:
    """Two directions of six tokens, the second one with some positions changed."""
    order = torch.full((1, 2, positions), -1)
    order[..., :6] = torch.arange(6)
    for position, token in changes:
        order[0, 1, position] = token
    return order


def test_a_permutation_is_taken() -> None:
    assert scan(orders((0, 5), (5, 0))).isfinite().all()
    assert scan(orders((0, -1), (8, 0), positions=9)).isfinite().all()


@pytest.mark.parametrize(
    "order",
    [
        orders((2, 10**9)),
        orders((2, 6)),
        orders((2, -7)),
        orders((2, -1)),
        orders((2, 3)),
        orders((7, 3), positions=9),
        orders((3, -1), positions=9),
        orders((7, -2), positions=9),
    ],
    ids=["far", "one beyond", "negative", "empty", "twice", "padded, twice", "none", "below empty"],
)
def test_what_is_no_permutation_is_refused(order: Tensor) -> None:
    with pytest.raises(RuntimeError, match="order must hold every token from 0 to 5 once"):
        scan(order)


def test_orders_that_do_not_share_windows_are_refused() -> None:
    """Their mixture reads one token twice, and another one never."""
    both = torch.cat([orders(), orders((0, 5), (5, 0))])
    both[1, 0] = torch.tensor([5, 1, 2, 3, 4, 0])
    with pytest.raises(RuntimeError, match="order must hold every token from 0 to 5 once"):
        scan(both, torch.tensor([0, 0, 0, 1, 1, 1]))


def test_windows_from_the_end_are_refused() -> None:
    """Negative numbers index a tensor; in the kernels they would be an address before it."""
    y = scan(torch.cat([orders(), orders((0, 1), (1, 0))]), torch.tensor([-2, -2, -2, 1, 1, 1]))
    with pytest.raises(RuntimeError, match="window must be from 0 to 1, got -2"):
        y.sum().backward()


@pytest.mark.parametrize("bits", [-1, 0x7FC00001, 0x7FC00000])
def test_every_nan_stays_nan(bits: int) -> None:
    """Also those whose lowest bits are set, which no arithmetic makes, but a damaged file may."""
    one = torch.ones(1, 3, 6)
    A = torch.full((3, 1), bits, dtype=torch.int32).view(torch.float32)
    assert selective_scan(one, one, A, one[:, :1], one[:, :1], backend="native").isnan().all()
