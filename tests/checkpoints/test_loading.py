"""Strict loading: what fits is copied, what does not is explained and nothing changes."""

import pytest
import torch
from torch import Tensor, nn

from mmquad.checkpoints import CheckpointMismatchError, extract_state_dict, load_strict
from mmquad.checkpoints.loading import (
    check_settings,
    find_state_dict,
    take_prefix,
    unused_parts,
)

WEIGHTS = {"a": torch.zeros(1), "b": torch.ones(2)}


def make_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def filled(**changes: Tensor | None) -> dict[str, Tensor]:
    """A state dict of ones for :func:`make_model`; None removes an entry."""
    state = {name: torch.ones_like(value) for name, value in make_model().state_dict().items()}
    state |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": {"state": {}}, "epoch": 3},
        {"state_dict": {"model": {"module": WEIGHTS}}},
        {"model": {f"module.{k}": v for k, v in WEIGHTS.items()}},
        {"model": {f"_orig_mod.module.{k}": v for k, v in WEIGHTS.items()}},
        {"model_ema": {"a": torch.ones(1)}, "model": WEIGHTS},
        {"state_dict": WEIGHTS, "epoch": torch.tensor(3)},
        {**WEIGHTS, "epoch": 3},
    ],
    ids=["bare", "model", "nested", "ddp", "compiled", "two", "tensor beside", "number among"],
)
def test_weights_are_found(content: dict):
    found = find_state_dict(content)
    assert list(found) == ["a", "b"]
    assert all(found[name] is WEIGHTS[name] for name in WEIGHTS)


def test_a_key_names_one_of_several():
    content = {"model": WEIGHTS, "ema": {"model": {"c": torch.zeros(1)}}}
    assert list(find_state_dict(content, "ema")) == list(find_state_dict(content, "ema.model"))
    assert list(find_state_dict(content, "ema")) == ["c"]
    with pytest.raises(
        CheckpointMismatchError, match=r"no 'teacher'; its keys are .'model', 'ema'"
    ):
        find_state_dict(content, "teacher")


def test_names_stay_as_they_are_where_a_prefix_is_to_be_named() -> None:
    content = {"model": {f"module.{k}": v for k, v in WEIGHTS.items()}}
    assert list(extract_state_dict(content)) == ["module.a", "module.b"]


def test_no_weights() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"no weights found.*\['epoch', 'best'\]"):
        find_state_dict({"epoch": 3, "best": {"a": torch.zeros(1)}})


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


@pytest.mark.parametrize(
    ("surplus", "parts"),
    [
        ([], []),
        (["aux.conv.weight", "aux.bias"], ["aux."]),
        (["aux.0.conv.weight", "roi.mask.fc.bias"], ["aux.", "roi.mask."]),
        (["roi.box.2.weight"], []),  # one more of a list of layers
        (["roi.box.0.scale"], []),  # one more parameter of a layer
        (["bias"], []),
        (["backbone.extra.weight"], []),
        (["roi.boxes.fc.weight"], ["roi.boxes."]),
    ],
)
def test_parts_that_a_model_was_built_without(surplus: list[str], parts: list[str]):
    roi = nn.ModuleDict({"box": make_model()})
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "roi": roi})
    weights = model.state_dict() | dict.fromkeys(surplus, torch.zeros(1))
    assert unused_parts(model, weights) == parts


def test_settings_of_the_weights() -> None:
    """Equal ones pass, also where the model has more; another one, or one it has not, does not."""
    content = {"meta": {"settings": {"quadtree": "released"}}}
    check_settings(content, {"quadtree": "released", "pad_windows": True}, source="x.pth")
    for meta in ({}, {"meta": None}, {"meta": {"settings": None}}):
        check_settings(meta, {"quadtree": "paper"}, source="x.pth")
    for settings, mine in (({"quadtree": "paper"}, "'paper'"), ({}, "None")):
        message = rf"x\.pth fits in shape .* quadtree='released' there, {mine} in this model"
        with pytest.raises(CheckpointMismatchError, match=message):
            check_settings(content, settings, source="x.pth")
