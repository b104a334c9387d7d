"""Hundreds of damaged files: each is refused with a message, or gives exactly the good weights."""

import io
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.releases.convert import convert_file

sys.path.append(str(Path(__file__).parents[1] / "releases"))
from released import released_weights, small_model

Weights = dict[str, Tensor]


@cache
def good_weights() -> Weights:
    return released_weights()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@cache
def good_file() -> bytes:
    return saved({"model": good_weights()})


def truncated(draw: random.Random) -> bytes:
    return good_file()[: draw.randrange(len(good_file()))]


def with_flipped_bits(draw: random.Random) -> bytes:
    data = bytearray(good_file())
    for _ in range(draw.choice([1, 1, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def with_flipped_bits_at_an_end(draw: random.Random) -> bytes:
    """In the pickle or in the directory of the archive, which are small."""
    data = bytearray(good_file())
    place = draw.randrange(12_000)
    data[place if draw.random() < 0.5 else -1 - place] ^= 1 << draw.randrange(8)
    return bytes(data)


def with_a_hole(draw: random.Random) -> bytes:
    data = bytearray(good_file())
    start, length = draw.randrange(len(data)), draw.choice([16, 512, 4096])
    data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data)


def with_wrong_shape(draw: random.Random) -> bytes:
    weights = dict(good_weights())
    name = draw.choice(list(weights))
    value = weights[name]
    weights[name] = draw.choice(
        [
            value[..., :0],
            value[None],
            value.flatten(),
            torch.cat([value, value]),
            value.sum(),
            value.transpose(0, -1),
        ]
    )
    return saved({"model": weights})


def with_renamed_keys(draw: random.Random) -> bytes:
    names = list(good_weights())
    wrong = set(draw.sample(names, draw.choice([1, 3])))
    renames: list[Callable[[str], str]] = [
        lambda name: name + "_",
        lambda name: "backbone." + name,
        lambda name: name.replace("layers.", "stages.").replace("patch", "path"),
        lambda name: name.replace("0", "1", 1) + "x",
        str.upper,
    ]
    rename = draw.choice(renames)
    return saved({"model": {rename(n) if n in wrong else n: v for n, v in good_weights().items()}})


def with_swapped_keys(draw: random.Random) -> bytes:
    """Swapped weights of one shape cannot be noticed; of different shapes they must be."""
    weights = dict(good_weights())
    a, b = draw.sample(list(weights), 2)
    while weights[a].shape == weights[b].shape:
        a, b = draw.sample(list(weights), 2)
    weights[a], weights[b] = weights[b], weights[a]
    return saved({"model": weights})


def with_missing_keys(draw: random.Random) -> bytes:
    gone = set(draw.sample(list(good_weights()), draw.choice([1, 2, 20])))
    return saved({"model": {k: v for k, v in good_weights().items() if k not in gone}})


def with_wrong_values(draw: random.Random) -> bytes:
    weights = dict(good_weights())
    name = draw.choice(list(weights))
    wrong = [
        weights[name] * torch.nan,
        weights[name].to(torch.int32),
        weights[name].tolist(),
        None,
        weights[name].to_sparse() if weights[name].ndim > 1 else "text",
        weights[name].to(torch.complex64),
    ]
    weights[name] = draw.choice(wrong)
    return saved({"model": weights})


def nested(draw: random.Random) -> bytes:
    content: object = good_weights()
    for _ in range(draw.randrange(5)):
        key = draw.choice(["model", "state_dict", "module", "net", "weights", 7])
        content = {key: content, "epoch": draw.random()}
    if draw.random() < 0.4:
        content = {"model": draw.choice([[], {}, "x", torch.zeros(2), {"model": {}}]), "a": content}
    return saved(content)


def with_prefix(draw: random.Random) -> bytes:
    prefix = draw.choice(["module.", "_orig_mod.", "module._orig_mod.", "net.", "encoder.", ""])
    return saved({"model": {prefix + k: v for k, v in good_weights().items()}})


DAMAGES = {
    truncated: 30,
    with_flipped_bits: 50,
    with_flipped_bits_at_an_end: 40,
    with_a_hole: 20,
    with_wrong_shape: 40,
    with_renamed_keys: 30,
    with_swapped_keys: 15,
    with_missing_keys: 20,
    with_wrong_values: 20,
    nested: 30,
    with_prefix: 12,
}
assert sum(DAMAGES.values()) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_refused_with_a_message_or_exactly_right(damage: Callable, tmp_path: Path):
    source, target = tmp_path / "released.pth", tmp_path / "converted.pth"
    source.write_bytes(good_file())
    expected = convert_file(source, target).state_dict
    target.unlink()

    draw = random.Random(damage.__name__)
    refused = 0
    for case in range(DAMAGES[damage]):
        source.write_bytes(damage(draw))
        try:
            found = convert_file(source, target).state_dict
        except (CheckpointFileError, CheckpointMismatchError) as error:
            message = str(error)
        else:
            message = None
            assert found.keys() == expected.keys(), case
            assert all(torch.equal(found[k], v) for k, v in expected.items()), case
            target.unlink()
        if message is not None:
            refused += 1
            assert str(source) in message
            assert len(message) > len(str(source)) + 20
        assert list(tmp_path.iterdir()) == [source], "a draft was left behind"
    # some of the others leave the file as it was: zeros over zeros, the transpose of a vector
    always = (truncated, with_renamed_keys, with_swapped_keys, with_missing_keys, with_wrong_values)
    assert refused == DAMAGES[damage] if damage in always else refused > DAMAGES[damage] // 5


@pytest.mark.slow
def test_damaged_converted_files_never_initialise_a_backbone_by_half(tmp_path: Path):
    source, target = tmp_path / "released.pth", tmp_path / "converted.pth"
    source.write_bytes(good_file())
    convert_file(source, target)
    data = target.read_bytes()
    init_cfg = {"type": "Pretrained", "checkpoint": str(target), "prefix": "backbone."}

    def load() -> Weights:
        model = small_model(init_cfg=init_cfg)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            model._load_pretrained(str(target), prefix="backbone.")
        except (CheckpointFileError, CheckpointMismatchError):
            assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
            raise
        return model.state_dict()

    expected = load()
    draw = random.Random(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        if draw.random() < 0.3:
            damaged = damaged[: draw.randrange(len(data))]
        else:
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        target.write_bytes(damaged)
        try:
            found = load()
        except (CheckpointFileError, CheckpointMismatchError):
            refused += 1
        else:
            assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert refused > 20
