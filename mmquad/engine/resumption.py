"""Which checkpoint an interrupted run continues with."""

import re
from pathlib import Path

from mmquad.checkpoints import CheckpointFileError
from mmquad.checkpoints.files import check_file
from mmquad.errors import SetupError

__all__ = ["check_resumable", "find_resumable", "run_checkpoints"]

_CHECKPOINT = re.compile(r"(epoch|iter)_\d+\.pth")


def find_resumable(work_dir: str | Path) -> tuple[Path | None, list[str]]:
    """The latest complete checkpoint of a work dir.

    It is the one that ``last_checkpoint`` names. If that file is missing, empty or names a
    checkpoint that is damaged, it is the newest complete one, by the time it was written: that of
    a run that was killed while it saved.

    Returns:
        The checkpoint, or None if there is none to resume; and what the log should say.

    Raises:
        SetupError: There are checkpoints, or a record of one, and none is usable.
    """
    work_dir = Path(work_dir)
    record = work_dir / "last_checkpoint"
    named = record.read_text().strip() if record.is_file() else None
    notes = []
    if named:
        # The record holds the path as it was when the run started, maybe in another folder.
        beside = work_dir / Path(named).name
        recorded = beside if beside.is_file() else Path(named)
        problem = _problem(recorded)
        if problem is None:
            return recorded, []
        notes.append(f"{record} names {named}, which cannot be used: {problem}")
    elif named == "":
        notes.append(f"{record} is empty: its last write was interrupted.")
    for path in run_checkpoints(work_dir):
        problem = _problem(path)
        if problem is None:
            notes.append(f"Falling back to {path}, the newest complete checkpoint.")
            return path, notes
        notes.append(f"Not complete: {problem}")
    if not notes:
        return None, []
    raise SetupError(
        "\n".join([*notes, f"There is no complete checkpoint in {work_dir}."])
        + "\nWhat to do: give a checkpoint with --resume PATH, or delete "
        f"{record} and the damaged files to start anew."
    )


def run_checkpoints(work_dir: str | Path) -> list[Path]:
    """What a training saved every so often in its work dir, the newest first."""
    files = [path for path in Path(work_dir).glob("*.pth") if _CHECKPOINT.fullmatch(path.name)]
    return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def check_resumable(path: str | Path) -> None:
    """Raise if a checkpoint that the user named is not complete.

    Raises:
        SetupError: Saying what is wrong, and which complete checkpoints lie beside it.
    """
    problem = _problem(Path(path))
    if problem is None:
        return
    folder = Path(path).parent
    good = [p for p in sorted(folder.glob("*.pth")) if p != Path(path) and _problem(p) is None]
    beside = ", ".join(map(str, good)) or "none"
    raise SetupError(
        f"Cannot resume: {problem}\nWhat to do: name a complete one (beside it: {beside})."
    )


def _problem(path: Path) -> str | None:
    try:
        kind = check_file(path)
    except CheckpointFileError as error:
        return str(error)
    if kind == "safetensors":
        return (
            f"{path} is a safetensors file: weights without the state of a training (optimizer, "
            f"iteration). To begin a new training with them: --cfg-options load_from={path}"
        )
    if kind == "other":
        return f"{path} is not a checkpoint of a run, or its start is damaged."
    return None
