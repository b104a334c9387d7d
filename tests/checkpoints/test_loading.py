"""Strict loading: what fits is copied, what does not is explained and nothing changes."""

import pytest
import torch
from torch import Tensor, nn

from mmquad.checkpoints import CheckpointMismatchError, extract_state_dict, load_strict
from mmquad.checkpoints.loading import take_prefix


def make_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def filled(**changes: Tensor | None) -> dict[str, Tensor]:
    """A state dict of ones for :func:`make_model`; None removes an entry."""
    state = {name: torch.ones_like(value) for name, value in make_model().state_dict().items()}
    state |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_containers(key: str | None) -> None:
    content = {"a": torch.zeros(1), "epoch": 3}
    checkpoint = content if key is None else {key: content, "optimizer": {}, "config": object()}
    assert list(extract_state_dict(checkpoint)) == ["a"]


def test_container_without_tensors() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"holds no tensors.*\['epoch', 'net'\]"):
        extract_state_dict({"epoch": 3, "net": {"a": torch.zeros(1)}})


@pytest.mark.parametrize("prefix", ["backbone", "backbone."])
def test_prefix(prefix: str) -> None:
    state = {"backbone.a": torch.zeros(1), "backbone2.b": torch.zeros(1), "neck.c": torch.zeros(1)}
    assert list(take_prefix(state, prefix)) == ["a"]
    assert take_prefix(state, None) == state


def test_unknown_prefix() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"no entry starts with prefix 'encoder\.'"):
        take_prefix({"backbone.a": torch.zeros(1)}, "encoder")


def test_copies_everything() -> None:
    model = make_model()
    load_strict(model, filled(), source="file.pth")
    assert all(value.eq(1).all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1__bias": None}, r"3 of 4 entries match\.\n +missing .* \(1\):\n +1\.bias"),
        ({"2__bias": torch.ones(1)}, r"4 of 4 .*\n +unexpected .* \(1\):\n +2\.bias"),
        (
            {"0__weight": torch.ones(3, 2)},
            r"3 of 4 .*\n +wrong shape \(1\):\n +0\.weight: model \(2, 3\), checkpoint \(3, 2\)",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_nothing_changes_when_something_does_not_fit(changes: dict, message: str) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=message) as raised:
        load_strict(model, filled(**changes), source="file.pth")
    assert str(raised.value).startswith("file.pth does not fit Sequential")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_permitted_differences() -> None:
    model = make_model()
    state = filled(**{"1__bias": None, "9__weight": torch.ones(1)})
    load_strict(model, state, source="x", may_miss=["1.b"], may_ignore=["9."])
    assert model[1].weight.eq(1).all()


def test_permission_to_miss_does_not_excuse_wrong_shapes() -> None:
    state = filled(**{"1__bias": torch.ones(7)})
    with pytest.raises(CheckpointMismatchError, match="wrong shape"):
        load_strict(make_model(), state, source="x", may_miss=["1."])


def test_forgotten_prefix_is_named() -> None:
    state = {f"backbone.{name}": value for name, value in filled().items()}
    with pytest.raises(CheckpointMismatchError, match=r"set prefix='backbone\.' in init_cfg"):
        load_strict(make_model(), state, source="x")


def test_long_lists_are_cut() -> None:
    surplus = {f"{i}__extra": torch.ones(1) for i in range(10, 30)}
    with pytest.raises(CheckpointMismatchError, match=r"\(20\):(\n.*){8}\n +\.\.\. and 12 more"):
        load_strict(make_model(), filled(**surplus), source="x")
