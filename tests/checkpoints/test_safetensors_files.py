"""Intact safetensors files open everywhere; of others it is said what is wrong with them."""

import json
import struct
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import save_file

from mmquad import compat
from mmquad.checkpoints import (
    CheckpointFileError,
    CheckpointMismatchError,
    check_settings,
    read_checkpoint,
)
from mmquad.checkpoints.files import check_file
from mmquad.checkpoints.safetensors_files import is_safetensors, write_safetensors
from mmquad.checks.data_paths import check_checkpoints
from mmquad.engine.resumption import check_resumable
from mmquad.errors import SetupError

WEIGHTS = {
    "a": torch.arange(100.0).view(4, 25),
    "half": torch.full((3,), 0.5, dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "none": torch.zeros(0, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(WEIGHTS, path, {"format": "pt", "author": "somebody"})
    return path


def equal(found: dict, expected: dict = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(
        found[k].dtype == v.dtype and torch.equal(found[k], v) for k, v in expected.items()
    )


def test_files_of_others_open_by_their_content(path: Path):
    for name in (path.name, "weights.pth"):
        content = read_checkpoint(path.rename(path.with_name(name)))
        path = path.with_name(name)
        assert equal(content["state_dict"])
        assert content["meta"] == {"author": "somebody"}
        assert check_file(path) == "safetensors"


def test_the_length_of_the_header_may_look_like_the_start_of_something_else(path: Path):
    """123 bytes begin as JSON does; with 32 and 8,202 bytes white space comes first."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for wanted in (0x7B7B, 0x200A, 0x8B1F):
        header = content[8 : 8 + length].ljust(wanted)
        path.write_bytes(struct.pack("<Q", wanted) + header + content[8 + length :])
        assert equal(read_checkpoint(path)["state_dict"])


@pytest.mark.parametrize(
    ("length", "rest", "claims"),
    [
        (1, b"{", False),  # the shortest header is {}
        (2, b"{}", True),
        (100_000_000, b"{", True),  # the longest that the format allows
        (100_000_001, b"{", False),
        (2, b"[]", False),
        (2, b"", False),
    ],
)
def test_what_claims_to_be_one(length: int, rest: bytes, claims: bool):
    assert is_safetensors(struct.pack("<Q", length) + rest) == claims


def test_what_was_read_outlives_the_file(path: Path):
    weights = read_checkpoint(path)["state_dict"]
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert equal(weights)


def with_dtype(content: bytes, dtype: bytes) -> bytes:
    return content.replace(b'"BF16"', b'"%s"' % dtype)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-10], r"cut off: [\d,]+ of [\d,]+ bytes are there"),
        (lambda c: c[:50], "cut off: 50 of"),
        (lambda c: c[:9], "cut off: 9 of"),
        (lambda c: c + b"more", "damaged: .*not fully covered"),
        (lambda c: c.replace(b'"a"', b'"n"', 1).replace(b'"dtype"', b'"dtyqe"', 1), "damaged: "),
        (lambda c: with_dtype(c, b"F99 "), "damaged: .*F99"),
        (lambda c: b"\x30" + c[1:], "damaged: .*invalid JSON"),
        (lambda c: b"", r"is empty \(0 bytes\)"),
        (lambda c: bytes(100), "is not a safetensors file: it begins with"),
        (lambda c: c[:5], "is not a safetensors file"),
        (lambda c: b"<!DOCTYPE html>", "is an HTML page"),
        (lambda c: b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ],
)
def test_damage_is_named(path: Path, damage, message: str):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointFileError, match=message) as raised:
        read_checkpoint(path)
    assert str(raised.value).startswith(str(path))


def test_a_file_of_torch_under_this_name_is_read_as_what_it_is(path: Path):
    torch.save({"state_dict": WEIGHTS}, path)
    assert equal(read_checkpoint(path)["state_dict"])


def test_what_is_written_comes_back(tmp_path: Path):
    path = tmp_path / "written.safetensors"
    storage = torch.arange(12.0)
    weights = {
        "first": storage[:6],
        "overlapping": storage[3:9].view(2, 3),
        "tied": storage[:6],
        "turned": storage.view(3, 4).t(),
        "spread": torch.ones(1).expand(5),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    meta = {"settings": {"quadtree": {"shifts": ((1, 0), (0, 1))}}, "arch": "small", "sha256": "12"}
    write_safetensors(path, weights, meta)
    content = read_checkpoint(path)
    assert equal(content["state_dict"], {k: v.detach() for k, v in weights.items()})
    assert content["meta"] == json.loads(json.dumps(meta))
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "pt"

    check_settings(content, meta["settings"], source="x")
    other = {"quadtree": {"shifts": ((1, 0), (0, -1))}}
    with pytest.raises(CheckpointMismatchError, match="trained with other settings"):
        check_settings(content, other, source="x")


@pytest.mark.parametrize("text", ["no JSON", "[1]", '"text"'])
def test_meta_of_another_writer_is_no_error(path: Path, text: str):
    save_file(WEIGHTS, path, {"meta": text, "author": "somebody"})
    assert read_checkpoint(path)["meta"] == {"author": "somebody"}


def test_mmengine_loads_them(path: Path, monkeypatch):
    compat.apply()
    compat.apply()
    monkeypatch.setenv("HOME", str(path.parent))
    for name in (str(path), f"~/{path.name}", path.as_uri()):
        content = CheckpointLoader.load_checkpoint(name, map_location="cpu")
        assert equal(content["state_dict"])


@pytest.mark.parametrize(
    ("address", "loader"),
    [
        ("https://host/a.safetensors", "load_from_safetensors"),
        ("http://host/a.safetensors?download=true", "load_from_safetensors"),
        ("weights/a.safetensors", "load_from_safetensors"),
        ("weights/a.safetensors.pth", "load_from_local"),
        ("https://host/a.safetensors/epoch_1.pth", "load_from_http"),
        ("https://host/epoch_1.pth", "load_from_http"),
        ("torchvision://resnet50", "load_from_torchvision"),
        ("s3://bucket/epoch_1.pth", "load_from_ceph"),
    ],
)
def test_other_addresses_keep_their_loaders(address: str, loader: str):
    compat.apply()
    assert CheckpointLoader._get_checkpoint_loader(address).__name__ == loader


def test_resuming_from_one_is_refused_with_the_way_to_begin(path: Path):
    with pytest.raises(SetupError, match=r"without the state of a training .*load_from=.*weights"):
        check_resumable(path)


def test_to_mmengine_the_name_matters(path: Path):
    check_checkpoints(Config({"load_from": str(path)}), pytest.fail, initial_weights=True)
    renamed = path.rename(path.with_name("weights.pth"))
    with pytest.raises(
        SetupError, match=r"an intact safetensors file.*rename it to weights\.safetens"
    ):
        check_checkpoints(Config({"load_from": str(renamed)}), pytest.fail, initial_weights=True)
    init_cfg = {"type": "Pretrained", "checkpoint": str(renamed)}
    check_checkpoints(Config({"model": {"init_cfg": init_cfg}}), pytest.fail, initial_weights=True)


@pytest.mark.parametrize(
    ("length", "header", "claims"),
    [
        (2, b"{}", True),
        (1, b"{}", False),
        (100_000_000, b"{", True),
        (100_000_001, b"{", False),
        (2, b"[]", False),
        (2, b"", False),
    ],
)
def test_what_claims_to_be_safetensors(length: int, header: bytes, claims: bool):
    assert is_safetensors(struct.pack("<Q", length) + header) is claims
