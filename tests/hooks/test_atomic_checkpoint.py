"""Killed processes, full disks and half-written files cost nothing that was saved before."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.engine.resumption import check_resumable, find_resumable
from mmquad.errors import SetupError
from mmquad.hooks.atomic_checkpoint import CheckpointNotSavedError, _LateRemovals
from mmquad.hooks.atomic_files import write_atomically


class TinyModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor"):
        output = self.linear(inputs)
        return {"loss": output.square().mean()} if mode == "loss" else [output]


class GrowingMetric(BaseMetric):
    """A score that rises, so that every validation has a new best."""

    validations = 0

    def process(self, data_batch, data_samples) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.validations += 1
        return {"score": float(self.validations)}


def make_runner(
    work_dir: Path,
    max_epochs: int,
    *,
    hook: str = "mmquad.AtomicCheckpointHook",
    keep: int = 1,
    load_from: str | None = None,
    best: bool = False,
) -> Runner:
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "dataset": [{"inputs": torch.ones(2)}] * 4,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "default_collate"},
    }
    checkpoint: dict = {"type": hook, "interval": 1, "max_keep_ckpts": keep}
    if best:
        checkpoint |= {"save_best": "score", "rule": "greater"}
    validation = {}
    if best:
        validation = {"val_dataloader": loader, "val_cfg": {}, "val_evaluator": [GrowingMetric()]}
    return Runner(
        model={"type": TinyModel},
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": max_epochs, "val_interval": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        default_hooks={"checkpoint": checkpoint},
        load_from=load_from,
        resume=load_from is not None,
        experiment_name=f"{work_dir.name}_{max_epochs}_{os.getpid()}_{id(loader)}",
        default_scope="mmengine",
        log_level="ERROR",
        **validation,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}


def epoch_of(path: Path | str) -> int:
    return torch.load(path, weights_only=False)["meta"]["epoch"]


@pytest.fixture
def disk_that_fills(monkeypatch):
    """A switch: once on, half of what is written to a checkpoint arrives, then ENOSPC."""
    state = {"full": False, "of": ("last_checkpoint", ".pth"), "once": False}
    real_open = open

    class FullFile:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            state["full"] = not state["once"]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

    def open_on_full_disk(path, mode="r", *args, **kwargs):
        file = real_open(path, mode, *args, **kwargs)
        concerned = any(part in str(path) for part in state["of"])
        return FullFile(file) if state["full"] and "w" in mode and concerned else file

    monkeypatch.setattr("builtins.open", open_on_full_disk)
    return state


def test_old_checkpoints_go_and_no_drafts_stay(tmp_path: Path):
    make_runner(tmp_path, 3).train()
    assert names(tmp_path) == {"epoch_3.pth", "last_checkpoint"}
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_3.pth")


def test_the_best_checkpoint_is_replaced_and_only_one_is_kept(tmp_path: Path):
    make_runner(tmp_path, 3, best=True).train()
    assert names(tmp_path) == {"epoch_3.pth", "best_score_epoch_3.pth", "last_checkpoint"}
    assert epoch_of(tmp_path / "best_score_epoch_3.pth") == 3


def test_a_full_disk_loses_nothing_and_is_explained(tmp_path: Path, disk_that_fills: dict):
    make_runner(tmp_path, 1).train()
    first = (tmp_path / "epoch_1.pth").read_bytes()
    disk_that_fills["full"] = True
    resumed = make_runner(tmp_path, 2, load_from=str(tmp_path / "epoch_1.pth"))
    with pytest.raises(CheckpointNotSavedError) as raised:
        resumed.train()
    message = str(raised.value)
    assert raised.value.errno == errno.ENOSPC
    for part in ("No space left", "MB free", "Nothing saved before was lost", "epoch_1.pth"):
        assert part in message
    # keep=1: mmengine would have removed the first checkpoint before it wrote the second
    assert names(tmp_path) == {"epoch_1.pth", "last_checkpoint"}
    assert (tmp_path / "epoch_1.pth").read_bytes() == first
    disk_that_fills["full"] = False
    assert find_resumable(tmp_path) == (tmp_path / "epoch_1.pth", [])
    make_runner(tmp_path, 2, load_from=str(tmp_path / "epoch_1.pth")).train()
    assert names(tmp_path) == {"epoch_2.pth", "last_checkpoint"}


def test_a_disk_that_is_full_after_the_checkpoint(tmp_path: Path, disk_that_fills: dict):
    """mmengine empties its record of the last checkpoint before it can fail to write it."""
    make_runner(tmp_path, 1).train()
    record = (tmp_path / "last_checkpoint").read_text()
    disk_that_fills |= {"full": True, "of": ("last_checkpoint",), "once": True}
    with pytest.raises(CheckpointNotSavedError, match=r"epoch_1\.pth"):
        make_runner(tmp_path, 2, load_from=str(tmp_path / "epoch_1.pth")).train()
    assert (tmp_path / "last_checkpoint").read_text() == record
    assert names(tmp_path) == {"epoch_1.pth", "epoch_2.pth", "last_checkpoint"}
    for path in tmp_path.glob("*.pth"):
        check_resumable(path)


def test_a_name_that_is_written_anew_is_not_removed_late(tmp_path: Path):
    """mmengine may remove a checkpoint and save another one under its name."""
    removals = _LateRemovals()
    renewed, old, folder = tmp_path / "best.pth", tmp_path / "epoch_1.pth", tmp_path / "shards"
    for path in (renewed, old):
        write_atomically(path, b"before")
    folder.mkdir()
    removals.remove(renewed)
    removals.remove(old)
    removals.rmtree(folder)
    assert names(tmp_path) == {"best.pth", "epoch_1.pth"}
    write_atomically(renewed, b"after")
    removals.remove_now()
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]
    assert renewed.read_bytes() == b"after"


def test_a_full_disk_at_the_best_checkpoint_keeps_the_previous_one(
    tmp_path: Path, disk_that_fills: dict, monkeypatch
):
    save = CheckpointHook._save_best_checkpoint

    def full_at_the_second(hook, runner, metrics):
        disk_that_fills["full"] = metrics["score"] == 2
        save(hook, runner, metrics)

    monkeypatch.setattr(CheckpointHook, "_save_best_checkpoint", full_at_the_second)
    with pytest.raises(CheckpointNotSavedError, match=r"epoch_2\.pth"):
        make_runner(tmp_path, 3, best=True).train()
    assert names(tmp_path) == {"epoch_2.pth", "best_score_epoch_1.pth", "last_checkpoint"}
    for name in ("epoch_2.pth", "best_score_epoch_1.pth"):
        check_resumable(tmp_path / name)


def test_mmengine_alone_loses_the_only_checkpoint(tmp_path: Path, disk_that_fills: dict):
    """The reason for the hook; if this fails, mmengine has become safe itself."""
    make_runner(tmp_path, 1, hook="CheckpointHook").train()
    disk_that_fills["full"] = True
    resumed = make_runner(
        tmp_path, 2, hook="CheckpointHook", load_from=str(tmp_path / "epoch_1.pth")
    )
    with pytest.raises(OSError, match="No space left"):
        resumed.train()
    assert "epoch_1.pth" not in names(tmp_path)
    with pytest.raises(SetupError, match=r"epoch_2\.pth is truncated"):
        find_resumable(tmp_path)


KILLED_WHILE_WRITING = """
import os, signal, sys
from mmquad.hooks import atomic_files
def die(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
atomic_files.os.fsync = die
atomic_files.write_atomically(sys.argv[1], b"new" * 100_000)
"""


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "epoch_1.pth"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], timeout=100)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"epoch_1.pth", ".epoch_1.pth.draft"}
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == {"epoch_1.pth"}


def saved(path: Path, seconds: int) -> bytes:
    torch.save({"weight": torch.ones(100)}, path)
    os.utime(path, (seconds, seconds))
    return path.read_bytes()


@pytest.mark.parametrize("record", ["epoch_2.pth", "", None])
def test_resume_falls_back_to_the_newest_complete_checkpoint(tmp_path: Path, record: str | None):
    good = saved(tmp_path / "epoch_10.pth", 1000)
    saved(tmp_path / "epoch_9.pth", 500)
    (tmp_path / "epoch_2.pth").write_bytes(good[: len(good) // 2])  # of a later run
    (tmp_path / "best_epoch_2.pth").write_bytes(good)  # holds no optimizer
    if record is not None:
        (tmp_path / "last_checkpoint").write_text(record and str(tmp_path / record))
    latest, notes = find_resumable(tmp_path)
    assert latest == tmp_path / "epoch_10.pth"
    said = "\n".join(notes)
    assert "epoch_2.pth is truncated" in said
    assert "Falling back to" in said
    assert ("is empty: its last write was interrupted" in said) == (record == "")


def test_nothing_to_resume_and_nothing_usable(tmp_path: Path):
    assert find_resumable(tmp_path) == (None, [])
    (tmp_path / "epoch_1.pth").touch()
    with pytest.raises(SetupError, match=r"(?s)epoch_1\.pth is empty.*no complete checkpoint"):
        find_resumable(tmp_path)


def test_a_damaged_checkpoint_that_was_named_is_refused(tmp_path: Path):
    good = saved(tmp_path / "epoch_1.pth", 1000)
    check_resumable(tmp_path / "epoch_1.pth")
    (tmp_path / "epoch_2.pth").write_bytes(good[:-50])
    with pytest.raises(
        SetupError, match=r"(?s)Cannot resume: .*epoch_2.*beside it: .*epoch_1\.pth"
    ):
        check_resumable(tmp_path / "epoch_2.pth")
