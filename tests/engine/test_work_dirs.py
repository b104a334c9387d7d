"""Two trainings never share a work dir; a place that cannot be written is found at the start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmquad.engine.work_dirs import check_writable, sole_training
from mmquad.errors import SetupError

SECOND = """
import sys
from mmquad.engine.work_dirs import sole_training
with sole_training(sys.argv[1]):
    print("has it")
"""


def second_process(work_dir: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SECOND, str(work_dir)],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


def test_a_second_training_is_refused_while_one_runs(tmp_path: Path):
    with sole_training(tmp_path / "work"):
        refused = second_process(tmp_path / "work")
        assert refused.returncode == 1
        assert f"Another training is running in {tmp_path / 'work'}" in refused.stderr
        # the other processes of the same training
        assert second_process(tmp_path / "work", RANK="1").stdout == "has it\n"
    assert second_process(tmp_path / "work").stdout == "has it\n"


def test_loading_processes_do_not_hold_the_dir_of_a_killed_training(tmp_path: Path):
    with sole_training(tmp_path):
        child = os.fork()
        if child == 0:
            os.execvp("sleep", ["sleep", "60"])
    try:
        assert second_process(tmp_path).stdout == "has it\n"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_places_that_can_be_written(tmp_path: Path):
    check_writable(tmp_path, "--out")
    check_writable(tmp_path / "new" / "newer", "--out")
    assert not (tmp_path / "new").exists()


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(
        SetupError, match=rf"it is no folder \({re.escape(str(tmp_path))}/file\)(?s:.*)--out"
    ):
        check_writable(tmp_path / "file" / "out", "--out")
    # as root everything but a read-only disk can be written, so the answer is set
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SetupError, match=r"you may not write there\.\n.*--work-dir"):
        check_writable(tmp_path, "--work-dir")
