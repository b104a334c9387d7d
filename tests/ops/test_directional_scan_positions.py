"""Empty positions and unmerged directions, against the equations read position by position."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmquad.ops import directional_scan
from mmquad.ops.directional_scan import BACKENDS
from mmquad.ops.selective_scan import selective_scan_flops

EMPTY = -1

# Two directions over six tokens. The second is shorter: its last two positions are empty, too.
ORDER = (
    (EMPTY, 0, 1, EMPTY, EMPTY, 2, 3, 4, EMPTY, 5),
    (5, 4, EMPTY, 3, 2, EMPTY, 1, 0, EMPTY, EMPTY),
)
INVERSE = ((1, 2, 5, 6, 7, 9), (7, 6, 4, 3, 1, 0))

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


class Tables(NamedTuple):
    order: Tensor  # [1, K, P]
    inverse: Tensor  # [1, K, L]


def hand_made() -> Tables:
    return Tables(torch.tensor([ORDER]), torch.tensor([INVERSE]))


def random_tables(length: int, positions: int, directions: int) -> Tables:
    """Tokens in random order at random positions."""
    generator = torch.Generator().manual_seed(length + positions)
    order = torch.full((1, directions, positions), EMPTY)
    inverse = torch.empty(1, directions, length, dtype=torch.int64)
    for k in range(directions):
        inverse[0, k] = torch.randperm(positions, generator=generator)[:length]
        order[0, k, inverse[0, k]] = torch.arange(length)
    return Tables(order, inverse)


def make(
    tables: Tables, batch: int, channels: int, states: int, ranks: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Inputs of the op by name, without tables."""
    generator = torch.Generator().manual_seed(batch + channels + states)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    wide = torch.promote_types(dtype, torch.float32)
    directions, length = tables.inverse.shape[1:]
    return {
        "x": normal(batch, length, channels).to(dtype),
        "z": normal(batch, length, directions * (ranks + 2 * states)).to(dtype),
        "dt_weight": normal(directions, channels, ranks).to(wide),
        "dt_bias": normal(directions, channels).sub_(2).to(wide),
        "A": -normal(directions, channels, states).exp().to(wide),
        "D_skip": normal(directions, channels).to(wide),
    }


def position_by_position(tables: Tables, x, z, dt_weight, dt_bias, A, D_skip) -> Tensor:
    """The equations as they stand, ``[B, K, L, D]``; the gradient is autograd's."""
    directions, _, ranks = dt_weight.shape
    states = A.shape[2]
    nothing_read = torch.zeros_like(x[:, 0])
    no_columns = z.new_zeros(z.shape[0], ranks + 2 * states)
    results = []
    for k in range(directions):
        columns = z.unflatten(2, (directions, -1))[:, :, k]
        h = x.new_zeros(x.shape[0], x.shape[2], states)
        y = {}
        for t in tables.order[0, k].tolist():
            read, row = (nothing_read, no_columns) if t == EMPTY else (x[:, t], columns[:, t])
            rank, B, C = row.split([ranks, states, states], dim=-1)
            delta = torch.nn.functional.softplus(rank @ dt_weight[k].T + dt_bias[k])[..., None]
            h = torch.exp(delta * A[k]) * h + delta * B[:, None] * read[..., None]
            y[t] = (h * C[:, None]).sum(-1) + D_skip[k] * read
        results.append(torch.stack([y[t] for t in range(x.shape[1])], dim=1))
    return torch.stack(results, dim=1)


def run(function, inputs: dict[str, Tensor], upstream: Tensor) -> dict[str, Tensor]:
    """Output and gradients by name."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    y = function(**leaves)
    grads = torch.autograd.grad(y, list(leaves.values()), upstream.to(y.dtype))
    return {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}


def upstream_of(inputs: dict[str, Tensor], tables: Tables, merge: bool) -> Tensor:
    batch, length, channels = inputs["x"].shape
    directions = tables.order.shape[1]
    shape = (batch, length, channels) if merge else (batch, directions, length, channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def objections(backend: str, tables: Tables, merge: bool) -> list[str]:
    """Why a backend cannot run such tables on CPU tensors; nothing: it must."""
    inputs = make(tables, 1, 2, 1, 1, torch.float32)
    x, z, dt_weight, A = (inputs[name] for name in ("x", "z", "dt_weight", "A"))
    found = BACKENDS[backend]
    return found.unavailable() or found.unsupported(
        x=x, z=z, dt_weight=dt_weight, A=A, order=tables.order, merge=merge
    )


def skip_if_unable(backend: str, tables: Tables, merge: bool) -> None:
    reasons = objections(backend, tables, merge)
    if reasons:
        pytest.skip("; ".join(reasons))


every_backend = pytest.mark.parametrize(
    "backend", [name for name in BACKENDS.names if name not in ("mamba_ssm", "triton")]
)


@every_backend
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(
    ("tables", "sizes"),
    [
        (hand_made(), (2, 3, 2, 2)),
        (hand_made(), (1, 40, 16, 1)),
        (random_tables(6, 6, 2), (1, 1, 1, 1)),
        (random_tables(70, 150, 4), (2, 33, 1, 3)),
        (random_tables(9, 200, 1), (1, 5, 4, 2)),
        (random_tables(64, 65, 3), (3, 64, 2, 1)),
    ],
    ids=["hand", "hand-wide", "full", "random", "mostly-empty", "chunk"],
)
def test_equals_the_equations(tables: Tables, sizes, dtype, merge: bool, backend: str) -> None:
    skip_if_unable(backend, tables, merge)
    inputs = make(tables, *sizes, dtype)
    upstream = upstream_of(inputs, tables, merge)

    def op(**leaves: Tensor) -> Tensor:
        return directional_scan(**leaves, **tables._asdict(), merge=merge, backend=backend)

    def equations(**leaves: Tensor) -> Tensor:
        y = position_by_position(tables, **leaves)
        return y.sum(1) if merge else y

    actual = run(op, inputs, upstream)
    expected = run(equations, {n: v.double() for n, v in inputs.items()}, upstream)
    for name, value in actual.items():
        assert value.shape == expected[name].shape, name
        error = (value.double() - expected[name]).norm()
        assert error <= TOLERANCE[dtype] * expected[name].norm(), name


@every_backend
def test_empty_positions_at_the_end_change_nothing(backend: str) -> None:
    short = random_tables(70, 100, 2)
    padding = torch.full((1, 2, 200), EMPTY)
    long = Tables(torch.cat([short.order, padding], dim=2), short.inverse)
    skip_if_unable(backend, long, merge=True)
    inputs = make(short, 2, 33, 2, 2, torch.float64)
    upstream = upstream_of(inputs, short, merge=True)
    results = [
        run(
            lambda t=t, **v: directional_scan(**v, **t._asdict(), backend=backend), inputs, upstream
        )
        for t in (short, long)
    ]
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-12, atol=1e-12)


@every_backend
def test_unmerged_directions_add_up(backend: str) -> None:
    tables = hand_made()
    skip_if_unable(backend, tables, merge=False)
    inputs = make(tables, 2, 40, 2, 2, torch.float32)
    apart = directional_scan(**inputs, **tables._asdict(), merge=False, backend=backend)
    merged = directional_scan(**inputs, **tables._asdict(), backend=backend)
    assert apart.is_contiguous()
    torch.testing.assert_close(apart.sum(1), merged, rtol=1e-6, atol=1e-6)


@every_backend
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
def test_gradcheck(merge: bool, backend: str) -> None:
    tables = hand_made()
    skip_if_unable(backend, tables, merge)
    inputs = make(tables, 2, 3, 2, 2, torch.float64)

    def op(*leaves: Tensor) -> Tensor:
        named = dict(zip(inputs, leaves, strict=True))
        return directional_scan(**named, **tables._asdict(), merge=merge, backend=backend)

    assert torch.autograd.gradcheck(op, [v.requires_grad_() for v in inputs.values()])


@every_backend
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
def test_opcheck(merge: bool, backend: str) -> None:
    tables = hand_made()
    skip_if_unable(backend, tables, merge)
    inputs = make(tables, 2, 3, 2, 2, torch.float32)
    plain = (*inputs.values(), *tables, None, None, merge)
    leaves = (*(v.clone().requires_grad_() for v in inputs.values()), *plain[len(inputs) :])
    torch.library.opcheck(torch.ops.mmquad.directional_scan.default, (*leaves, backend, True))
    _, states = torch.ops.mmquad.directional_scan(*plain, backend, True)
    upstream = upstream_of(inputs, tables, merge).float()
    torch.library.opcheck(
        torch.ops.mmquad.directional_scan_backward.default, (upstream, *plain, states, backend)
    )


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "unmerged"])
def test_compiles_without_breaks(merge: bool) -> None:
    tables = hand_made()
    inputs = make(tables, 1, 3, 1, 1, torch.float32)

    def op(**leaves: Tensor) -> Tensor:
        return directional_scan(**leaves, **tables._asdict(), merge=merge, backend="chunked")

    compiled = torch.compile(op, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs), op(**inputs))


def test_positions_count_as_scanned() -> None:
    tables = hand_made()
    inputs = make(tables, 1, 3, 2, 2, torch.float32)
    with FlopCounterMode(display=False) as counter:
        directional_scan(**inputs, **tables._asdict())
    projection = 2 * 6 * 2 * 3 * 2  # L, K, D, R
    assert counter.get_total_flops() == projection + selective_scan_flops(1, 10, 6, 2, skip=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": torch.zeros(1, 2, 5, dtype=torch.int64)}, r"order must be \(1, 2, 6\)"),
        ({"order": torch.zeros(2, 5, dtype=torch.int64)}, "order must have three axes"),
        ({"inverse": torch.zeros(1, 2, 10, dtype=torch.int64)}, r"inverse must be \(1, 2, 6\)"),
    ],
)
def test_errors_say_what_was_expected(change: dict[str, Tensor], message: str) -> None:
    tables = hand_made()
    inputs = make(tables, 1, 3, 1, 1, torch.float32)
    with pytest.raises(ValueError, match=message):
        directional_scan(**{**inputs, **tables._asdict(), **change})


def test_windows_take_no_empty_positions_and_are_merged() -> None:
    tables = Tables(*(table.repeat(2, 1, 1) for table in random_tables(6, 6, 2)))
    inputs = make(tables, 1, 3, 1, 1, torch.float32)
    windows = {"window": torch.zeros(6, dtype=torch.int64), "weight": torch.ones(1, 1)}
    with pytest.raises(ValueError, match="merge=False takes fixed orders only"):
        directional_scan(**inputs, **tables._asdict(), **windows, merge=False)
    padded = tables._replace(order=torch.nn.functional.pad(tables.order, (0, 1), value=EMPTY))
    with pytest.raises(ValueError, match=r"order must be \(2, 2, 6\)"):
        directional_scan(**inputs, **padded._asdict(), **windows)
