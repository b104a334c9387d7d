"""``python -m mmquad.info``."""

import subprocess
import sys

import pytest

from mmquad import info
from mmquad.environment import Problem
from mmquad.ops import use_backend
from mmquad.ops.backend import ENVIRONMENT_VARIABLE, Backend, BackendSet


def make_backend(name: str, priority: int, *unavailable: str) -> Backend:
    return Backend(
        name=name,
        priority=priority,
        summary=f"the {name} one",
        forward=print,
        backward=print,
        unavailable=lambda: list(unavailable),
        unsupported=lambda **inputs: [],
    )


OP = BackendSet(
    "some_op",
    [make_backend("fast", 2, "needs a device"), make_backend("good", 1), make_backend("slow", 0)],
)


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def rows(text: str) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in text.splitlines() if line]


def test_backends_with_states_and_reasons() -> None:
    assert rows(info.describe_backends([OP])) == [
        ["backend", "auto", f"({ENVIRONMENT_VARIABLE} unset)"],
        ["some_op"],
        ["fast", "off", "the fast one"],
        ["needs", "a", "device"],
        ["good", "runs", "the good one"],
        ["slow", "available", "the slow one"],
    ]


def test_choice_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "slow")
    found = rows(info.describe_backends([OP]))
    assert ["backend", "slow", f"({ENVIRONMENT_VARIABLE} slow)"] in found
    assert ["good", "available", "the good one"] in found
    assert ["slow", "runs", "the slow one"] in found


def test_unknown_choice() -> None:
    with use_backend("fastest"):
        text = info.describe_backends([OP])
    assert "has no backend 'fastest': a call raises; there are ['fast', 'good', 'slow']" in text


@pytest.mark.parametrize(
    ("problems", "choice", "status"),
    [
        ([], "auto", 0),
        ([], "reference", 0),
        ([], "fastest", 1),
        ([Problem("warning", "w", "f")], "auto", 0),
        ([Problem("error", "mmcv is broken", "reinstall it")], "auto", 1),
    ],
)
def test_exit_status_and_problems(
    problems: list[Problem],
    choice: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(info, "find_problems", lambda: problems)
    with use_backend(choice):
        assert info.main() == status
    printed = capsys.readouterr().out
    for problem in problems:
        assert f"{problem.severity}: {problem.what}" in printed


def test_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmquad.info"], capture_output=True, text=True, timeout=600
    )
    assert done.stderr == ""
    for expected in ("torch", "mmengine", "threads", *(op.op for op in info.OPS), "reference"):
        assert expected in done.stdout
