import json

import pytest

from mmquad.datasets.generated import STAMP_NAME, build_once


def writer(text: str):
    def write(folder):
        (folder / "data.txt").write_text(text)

    return write


def refuse(folder):
    raise AssertionError("must not be called")


def test_the_same_stamp_is_not_built_again(tmp_path):
    root = build_once(tmp_path / "set", {"sides": (1, 2)}, writer("a"))
    assert root == tmp_path / "set"
    build_once(root, {"sides": (1, 2)}, refuse)
    assert json.loads((root / STAMP_NAME).read_text()) == {"sides": [1, 2]}


def test_another_stamp_is_an_error_that_names_the_difference(tmp_path):
    root = build_once(tmp_path / "set", {"seed": 0, "n": 3}, writer("a"))
    with pytest.raises(FileExistsError, match=r"seed: 0 -> 1\).*overwrite=True \(--overwrite\)"):
        build_once(root, {"seed": 1, "n": 3}, refuse)
    assert (root / "data.txt").read_text() == "a"


def test_overwrite_replaces_and_leaves_nothing_behind(tmp_path):
    root = build_once(tmp_path / "set", {"seed": 0}, writer("a"))
    build_once(root, {"seed": 1}, writer("b"), overwrite=True)
    assert (root / "data.txt").read_text() == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(FileExistsError, match="never overwritten"):
        build_once(tmp_path, {}, refuse, overwrite=True)
    assert (tmp_path / "photo.jpg").exists()


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert (build_once(tmp_path / "set", {}, writer("a")) / "data.txt").exists()


def test_a_failure_leaves_no_data_set(tmp_path):
    def fail(folder):
        (folder / "data.txt").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "set", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_data(tmp_path):
    def fail(folder):
        raise RuntimeError("disk full")

    root = build_once(tmp_path / "set", {"seed": 0}, writer("a"))
    with pytest.raises(RuntimeError, match="disk full"):
        build_once(root, {"seed": 1}, fail, overwrite=True)
    assert (root / "data.txt").read_text() == "a"


def test_a_data_set_built_in_the_meantime_is_used(tmp_path):
    def overtaken(folder):
        build_once(tmp_path / "set", {"seed": 0}, writer("first"))
        (folder / "data.txt").write_text("second")

    root = build_once(tmp_path / "set", {"seed": 0}, overtaken)
    assert (root / "data.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
