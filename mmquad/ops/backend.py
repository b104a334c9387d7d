"""Choosing an implementation, with reasons.

Every op of this package can be computed by several backends. A backend states why it cannot run
given inputs; ``auto`` takes the first one, by priority, that has no objection. The choice is made
by, in this order: the ``backend=`` argument, :func:`use_backend`, the environment variable
``MMQUAD_BACKEND``, ``auto``. An explicit choice never falls back to another backend.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "Backend",
    "BackendSet",
    "initial_state_unsupported",
    "no_reasons",
    "requested_backend",
    "use_backend",
]

ENVIRONMENT_VARIABLE = "MMQUAD_BACKEND"
AUTO = "auto"

# Innermost last. A plain list because torch.compile can guard on one and not on a ContextVar; the
# choice is therefore per process, not per thread.
_context_choices: list[str] = []


def no_reasons(**inputs: Any) -> list[str]:
    """Nothing is in the way, here or with any inputs."""
    return []


def initial_state_unsupported(**inputs: Any) -> list[str]:
    """Why a scan that starts from zeros cannot run the given inputs."""
    if inputs.get("initial_state") is None:
        return []
    return ["takes no initial_state; chunked and reference do, on any device"]


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    Attributes:
        name: What users type.
        priority: ``auto`` prefers larger numbers.
        summary: One line for ``python -m mmquad.info``.
        forward: The computation; its signature belongs to the op.
        backward: The gradient; its signature belongs to the op.
        unavailable: Reasons why it cannot run on this machine at all (empty: it can).
        unsupported: Reasons why it cannot run the given inputs (empty: it can).
        only_by_name: Whether ``auto`` passes over it although it can run.
    """

    name: str
    priority: int
    summary: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    unavailable: Callable[[], list[str]] = no_reasons
    unsupported: Callable[..., list[str]] = no_reasons
    only_by_name: Callable[[], bool] = lambda: False


class BackendSet:
    """The backends of one op, best first.

    Args:
        op: Name of the op.
        backends: In any order.
        must_have_choice: Refuse to run if context or environment chose a name that is not among
            them. An op beside the scans leaves that choice to them and makes its own.
    """

    def __init__(self, op: str, backends: list[Backend], must_have_choice: bool = True) -> None:
        self.op = op
        self.must_have_choice = must_have_choice
        self._by_name = {
            backend.name: backend
            for backend in sorted(backends, key=lambda backend: -backend.priority)
        }

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_name.values())

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def __getitem__(self, name: str) -> Backend:
        if name not in self._by_name:
            raise ValueError(
                f"{self.op} has no backend {name!r}; there are {self.names} (chosen by backend=, "
                f"use_backend or {ENVIRONMENT_VARIABLE})"
            )
        return self._by_name[name]

    def requested(self, argument: str | None = None) -> str:
        """What :func:`requested_backend` says, as far as it concerns this op."""
        name = requested_backend(argument)
        if argument or self.must_have_choice or name in self._by_name:
            return name
        return AUTO

    def select(self, choice: str | None, **inputs: Any) -> str:
        """Return the name of the backend to run.

        Args:
            choice: The ``backend=`` argument; None leaves it to context, environment, auto.
            **inputs: What the op's ``unsupported`` functions look at.

        Raises:
            ValueError: Unknown name, or the chosen (or every) backend cannot run these inputs.
        """
        requested = self.requested(choice)
        if requested != AUTO:
            reasons = self._objections(self[requested], inputs)
            if reasons:
                raise ValueError(
                    f"{self.op}: backend {requested!r} was chosen explicitly and cannot run "
                    f"{_describe(inputs)}: {'; '.join(reasons)}"
                )
            return requested
        refusals = []
        for backend in self:
            reasons = self._objections(backend, inputs)
            if not reasons and backend.only_by_name():
                reasons = ["runs only when asked for by name"]
            if not reasons:
                return backend.name
            refusals.append(f"{backend.name}: {'; '.join(reasons)}")
        raise ValueError(
            f"{self.op}: no backend can run {_describe(inputs)}: " + " | ".join(refusals)
        )

    @staticmethod
    def _objections(backend: Backend, inputs: dict[str, Any]) -> list[str]:
        return backend.unavailable() or backend.unsupported(**inputs)


def requested_backend(argument: str | None = None) -> str:
    """The backend asked for by argument, context manager or environment, else ``auto``."""
    if argument:
        return argument
    if _context_choices:
        return _context_choices[-1]
    return _environment_choice() or AUTO


def _environment_choice() -> str | None:
    return os.environ.get(ENVIRONMENT_VARIABLE)


# Not every torch.compile can trace os.environ; the variable is constant over a process. This is
# what torch.compiler.assume_constant_result does, besides importing the whole compiler.
_environment_choice._dynamo_marked_constant = True  # type: ignore[attr-defined]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend of every op of this package inside a ``with`` block (process-wide).

    Example:
        >>> from mmquad.ops import use_backend
        >>> with use_backend("reference"):
        ...     pass
    """
    _context_choices.append(name)
    try:
        yield
    finally:
        _context_choices.pop()


def _describe(inputs: dict[str, Any]) -> str:
    parts = []
    for name, value in inputs.items():
        if hasattr(value, "shape"):
            parts.append(f"{name}: {tuple(value.shape)} {value.dtype} on {value.device}")
        else:
            parts.append(f"{name}={value}")
    return "inputs (" + ", ".join(parts) + ")"
