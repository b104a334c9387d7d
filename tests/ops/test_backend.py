"""Which backend runs: argument, context, environment, auto; and what is said when none can."""

from contextlib import ExitStack

import pytest
import torch

from mmquad.ops import use_backend
from mmquad.ops.backend import ENVIRONMENT_VARIABLE, Backend, BackendSet, requested_backend


def make_backend(
    name: str, priority: int, unavailable: tuple[str, ...] = (), unsupported: tuple[str, ...] = ()
) -> Backend:
    return Backend(
        name=name,
        priority=priority,
        summary="",
        forward=lambda: name,
        backward=lambda: name,
        unavailable=lambda: list(unavailable),
        unsupported=lambda **inputs: list(unsupported),
    )


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> BackendSet:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return BackendSet(
        "some_op",
        [
            make_backend("slow", 0),
            make_backend("absent", 30, unavailable=("needs a device", "needs a compiler")),
            make_backend("picky", 20, unsupported=("N must be 1",)),
            make_backend("good", 10),
        ],
    )


def test_listed_best_first(backends: BackendSet) -> None:
    assert backends.names == ["absent", "picky", "good", "slow"]
    assert [backend.name for backend in backends] == backends.names


def test_auto_takes_the_first_without_objection(backends: BackendSet) -> None:
    assert backends.select(None) == "good"


def test_argument_over_context_over_environment_over_auto(
    backends: BackendSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "slow")
    assert backends.select(None) == "slow"
    with use_backend("good"):
        assert backends.select(None) == "good"
        assert backends.select("slow") == "slow"
    assert backends.select(None) == "slow"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert backends.select(None) == "good", "an empty variable is no choice"


def test_auto_can_be_asked_for(backends: BackendSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "slow")
    with use_backend("auto"):
        assert backends.select(None) == "good"
    assert backends.select("auto") == "good"


def test_contexts_nest_and_end_on_errors(backends: BackendSet) -> None:
    with use_backend("slow"):
        with use_backend("good"):
            assert requested_backend() == "good"
        assert requested_backend() == "slow"
        with pytest.raises(KeyError), use_backend("good"):
            raise KeyError
        assert requested_backend() == "slow"
    assert requested_backend() == "auto"


@pytest.mark.parametrize("way", ["argument", "context", "environment"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent", "needs a device; needs a compiler"), ("picky", "N must be 1")],
)
def test_explicit_choice_never_falls_back(
    backends: BackendSet, way: str, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = rf"some_op: backend '{name}' was chosen explicitly and cannot run .*: {reason}$"
    u = torch.zeros(2, 3)
    with ExitStack() as stack:
        if way == "context":
            stack.enter_context(use_backend(name))
        elif way == "environment":
            monkeypatch.setenv(ENVIRONMENT_VARIABLE, name)
        with pytest.raises(ValueError, match=message) as raised:
            backends.select(name if way == "argument" else None, u=u)
    assert "u: (2, 3) torch.float32 on cpu" in str(raised.value)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_unknown_names_list_the_known(
    backends: BackendSet, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cudnn")
    message = (
        r"some_op has no backend 'cudnn'; there are \['absent', 'picky', 'good', 'slow'\] "
        r"\(chosen by backend=, use_backend or MMQUAD_BACKEND\)"
    )
    with pytest.raises(ValueError, match=message):
        backends.select("cudnn" if way == "argument" else None)


def test_no_backend_left_gives_every_reason() -> None:
    backends = BackendSet(
        "some_op",
        [
            make_backend("absent", 1, unavailable=("needs a device",)),
            make_backend("picky", 0, unsupported=("N must be 1", "L must be even")),
        ],
    )
    message = (
        r"some_op: no backend can run inputs \(n=3\): "
        r"absent: needs a device \| picky: N must be 1; L must be even$"
    )
    with pytest.raises(ValueError, match=message):
        backends.select(None, n=3)
