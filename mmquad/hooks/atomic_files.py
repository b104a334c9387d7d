"""Files that are either complete or absent, whatever happens while they are written."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = ["AtomicLocalBackend", "write_atomically"]


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that a crash, a kill or a full disk leaves the old one, or none, in place.

    The content goes to a draft beside it, ``.<name>.draft``, is flushed to the disk, and takes the
    place of ``path`` in one step. A killed process leaves its draft; the next write replaces it.

    Args:
        path: The file; its folder is made if it does not exist.
        content: All of it.

    Raises:
        OSError: It could not be written, and the draft has been removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the renaming itself; some network file systems cannot, and then it may come later."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@register_backend("mmquad.atomic", force=True)
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written atomically: ``backend_args=dict(backend='mmquad.atomic')``.

    Like mmengine's, it serves `Runner.save_checkpoint` and everything else that takes backend
    arguments.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """:func:`write_atomically`."""
        write_atomically(filepath, obj)
