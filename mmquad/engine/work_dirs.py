"""Work dirs: one training at a time, and a place where files can be written."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mmquad.errors import SetupError, is_first_process

__all__ = ["check_writable", "sole_training"]


def check_writable(folder: str | Path, option: str) -> None:
    """Raise if files cannot be written in a folder, which need not exist yet.

    Found at the end of a run otherwise, when there is something to write.

    Args:
        folder: The folder.
        option: What names it, for the message.

    Raises:
        SetupError: Naming the folder that is in the way.
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return
    problem = "you may not write there" if existing.is_dir() else "it is no folder"
    raise SetupError(
        f"Nothing can be written in {folder}: {problem}{f' ({existing})' * (existing != folder)}.\n"
        f"What to do: name another folder with {option}."
    )


@contextlib.contextmanager
def sole_training(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work dir: they would replace each other's checkpoints.

    The lock is the process's: it ends with it, however it ends, and loading processes, which may
    outlive a killed training for seconds, do not have it.

    Raises:
        SetupError: A training is running there.
    """
    if not is_first_process():
        yield
        return
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    with open(Path(work_dir) / ".training.lock", "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise SetupError(
                f"Another training is running in {work_dir}; each would replace the checkpoints "
                "of the other.\nWhat to do: wait for it, or name another folder with --work-dir."
            ) from error
        except OSError:
            pass  # some network file systems have no locks
        yield
