"""Opening files: every way in which one can be wrong has its own message."""

import argparse
import hashlib
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from mmquad.checkpoints import CheckpointFileError, file_sha256, read_checkpoint

CONTENT = {"model": {"a": torch.arange(4.0)}, "epoch": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(CONTENT, path)
    return path


def assert_refused(path: Path, message: str, **options) -> None:
    with pytest.raises(CheckpointFileError, match=message) as raised:
        read_checkpoint(path, **options)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_good_files_open(is_zip: bool, tmp_path: Path):
    torch.save(CONTENT, tmp_path / "x", _use_new_zipfile_serialization=is_zip)
    content = read_checkpoint(str(tmp_path / "x"))
    assert torch.equal(content["model"]["a"], CONTENT["model"]["a"])
    assert content["epoch"] == 3


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n <!DOCTYPE html><html>", "an HTML page, not a checkpoint.*open the link"),
        (b"\xef\xbb\xbf<html lang=en>", "an HTML page"),
        (b"<?xml version='1.0'?><Error>", "an XML answer of a server"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        (b'{"error": "quota"}', "a text .JSON. file"),
        (b"\x1f\x8b\x08", "a gzip archive.*unpack it first"),
        (b"weights", "damaged or was not written by torch.save"),
        (bytes(1000), "damaged or was not written by torch.save"),
    ],
    ids=["empty", "html", "html-bom", "xml", "lfs", "json", "gzip", "text", "zeros"],
)
def test_other_things_saved_as_pth(start: bytes, message: str, path: Path):
    path.write_bytes(start)
    assert_refused(path, message)


def test_absent_files_and_folders(tmp_path: Path):
    assert_refused(tmp_path / "no.pth", "does not exist")
    assert_refused(tmp_path, "is a folder")


def test_truncated(path: Path):
    path.write_bytes(path.read_bytes()[:-200])
    assert_refused(path, "truncated or damaged .* Download or copy it again")


def test_a_flipped_bit_of_a_weight_is_found_by_the_checksum(path: Path):
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(4.0).numpy().tobytes()) + 6
    data[place] ^= 4
    path.write_bytes(data)
    assert_refused(path, r"checksum of its entry .*/data/0 is wrong")


def test_zip_of_something_else(path: Path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.pth", b"x")
    assert_refused(path, r"a zip archive, but not of torch.save.*weights\.pth")


def test_not_a_dictionary(path: Path):
    torch.save([torch.zeros(1)], path)
    assert_refused(path, "holds a list; expected a dictionary")


def test_whole_models_say_that_a_state_dict_is_wanted(path: Path):
    torch.save(nn.Linear(1, 1), path)
    assert_refused(path, "neither tensors nor plain containers: .*Linear")
    assert_refused(path, r"holds a Linear.*save its state_dict\(\)", trust=True)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_foreign_objects_need_trust(is_zip: bool, path: Path):
    content = {**CONTENT, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert_refused(path, r"argparse\.Namespace.\nOpening them runs code .*(.|\n)*--trust")
    assert read_checkpoint(path, trust=True)["args"].lr == 0.1
    assert read_checkpoint(path, allowed=[argparse.Namespace])["args"].lr == 0.1


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_nothing_runs_without_trust(path: Path, tmp_path: Path):
    trace = tmp_path / "trace"
    torch.save({**CONTENT, "config": Malicious(trace)}, path)
    assert_refused(path, "Opening them runs code")
    assert not trace.exists()
    read_checkpoint(path, trust=True)
    assert trace.exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_objects_of_packages_that_are_not_installed(is_zip: bool, path: Path, monkeypatch):
    """As yacs' CfgNode in trainers' dumps: a dict with attributes."""
    module = types.ModuleType("absent_package")

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = "absent_package", "CfgNode"
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "absent_package", module)
    config = CfgNode(MODEL=CfgNode(DEPTHS=[2, 2]))
    config.frozen = True
    torch.save({**CONTENT, "config": config}, path, _use_new_zipfile_serialization=is_zip)
    monkeypatch.delitem(sys.modules, "absent_package")
    assert_refused(path, r"absent_package\.CfgNode")
    assert torch.equal(read_checkpoint(path, trust=True)["model"]["a"], CONTENT["model"]["a"])


def test_runner_checkpoints_open_without_trust(path: Path):
    logging = pytest.importorskip("mmengine.logging")
    from mmquad.compat import runner_checkpoint_globals

    history = logging.HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"state_dict": {}, "message_hub": {"log_scalars": {"loss": history}}}, path)
    loaded = read_checkpoint(path, allowed=runner_checkpoint_globals())
    assert loaded["message_hub"]["log_scalars"]["loss"].data[0].tolist() == [1.0, 2.0]


def test_a_plain_pickle_is_refused(path: Path):
    path.write_bytes(pickle.dumps({"a": 1}))
    assert_refused(path, "damaged or was not written by torch.save")


def test_sha256(path: Path):
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
