"""Saves checkpoints so that an interruption or a full disk costs nothing that was saved before."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmquad.hooks.atomic_files import AtomicLocalBackend, write_atomically
from mmquad.registry import HOOKS

__all__ = ["AtomicCheckpointHook", "CheckpointNotSavedError"]


class CheckpointNotSavedError(OSError):
    """A checkpoint could not be written; those saved before are all there."""


class _LateRemovals(AtomicLocalBackend):
    """Local files whose removal waits until what replaces them has been saved."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, tuple[int, int]] = {}

    def remove(self, filepath: str | Path) -> None:
        self._waiting[str(filepath)] = _identity(filepath)

    def rmtree(self, dir_path: str | Path) -> None:
        self._waiting[str(dir_path)] = _identity(dir_path)

    def remove_now(self) -> None:
        """Remove what waits, except names that have been written anew since."""
        while self._waiting:
            path, identity = self._waiting.popitem()
            if os.path.exists(path) and _identity(path) == identity:
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def keep_all(self) -> None:
        """Forget what waits."""
        self._waiting.clear()


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with the same arguments, in a safe order on local disks.

    * A checkpoint is written to a draft and renamed when it is complete; mmengine writes in place,
      so that a killed process leaves half a file under a good name.
    * Old checkpoints (``max_keep_ckpts``, the previous best) go after the new one is there;
      mmengine removes them first, and with ``max_keep_ckpts=1`` has none while it writes. This
      takes the space of one more checkpoint.
    * When writing fails, the error says so in words, with the space that is left and the latest
      checkpoint that can be resumed.

    Remote stores and explicit ``backend_args`` are left to mmengine.
    """

    file_backend: Any
    backend_args: dict | None

    def before_train(self, runner: Runner) -> None:
        """Choose where to write, as mmengine does, then make that safe."""
        super().before_train(runner)
        self._removals: _LateRemovals | None = None
        self._recorded = _content(Path(runner.work_dir) / "last_checkpoint")
        local = isinstance(self.file_backend, LocalBackend)
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = {"backend": "mmquad.atomic"}
            self.file_backend = self._removals = _LateRemovals()

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, then remove."""
        with self._safely(runner):
            super().after_train_epoch(runner)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save, then remove."""
        with self._safely(runner):
            super().after_train_iter(runner, *args, **kwargs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save, then remove."""
        with self._safely(runner):
            super().after_val_epoch(runner, metrics)

    @contextlib.contextmanager
    def _safely(self, runner: Runner) -> Iterator[None]:
        removals = getattr(self, "_removals", None)
        if removals is None:  # not local, or a validation without training
            yield
            return
        record, last = Path(runner.work_dir) / "last_checkpoint", self.last_ckpt
        try:
            yield
        except OSError as error:
            removals.keep_all()
            before = self._recorded
            # mmengine opens the record before it knows that it can write
            if before is not None and _content(record) != before:
                with contextlib.suppress(OSError):
                    write_atomically(record, before)
            raise CheckpointNotSavedError(error.errno, self._explain(error, before)) from error
        if self.last_ckpt != last:
            self._recorded = _content(record)
        removals.remove_now()

    def _explain(self, error: OSError, record: bytes | None) -> str:
        folder = str(self.out_dir)
        free = shutil.disk_usage(folder).free / 2**20
        latest = record.decode() if record else None
        saved = f"The latest complete checkpoint is {latest}." if latest else "None was saved yet."
        return (
            f"The checkpoint could not be saved in {folder}: {error.strerror or error} "
            f"({free:,.0f} MB free). Nothing saved before was lost. {saved}\n"
            "What to do: make room, then continue with --resume."
        )
