"""What runs here, and what does not and why: ``python -m mmquad.info``."""

import os
import sys
from collections.abc import Sequence

import torch

from mmquad.environment import find_problems, report
from mmquad.ops.backend import ENVIRONMENT_VARIABLE, BackendSet, requested_backend
from mmquad.ops.causal_conv1d import BACKENDS as CAUSAL_CONV1D
from mmquad.ops.directional_scan import BACKENDS as DIRECTIONAL_SCAN
from mmquad.ops.selective_scan import BACKENDS as SELECTIVE_SCAN

__all__ = ["OPS", "describe_backends", "describe_threads", "main"]

OPS = (DIRECTIONAL_SCAN, SELECTIVE_SCAN, CAUSAL_CONV1D)


def describe_threads() -> str:
    """How many threads torch uses, and the variable that usually decides it."""
    variable = os.environ.get("OMP_NUM_THREADS", "unset")
    return f"threads      {torch.get_num_threads()} (OMP_NUM_THREADS {variable})"


def describe_backends(ops: Sequence[BackendSet] = OPS) -> str:
    """Each op's backends, best first, why one is off, and which one would run.

    Inputs can still make ``auto`` take the next one; an error then names the reasons.
    """
    requested = requested_backend()
    lines = [
        f"backend      {requested} ({ENVIRONMENT_VARIABLE} "
        f"{os.environ.get(ENVIRONMENT_VARIABLE) or 'unset'})"
    ]
    for op in ops:
        lines += ["", op.op]
        requested = op.requested()
        if requested != "auto" and requested not in op.names:
            lines.append(f"  has no backend {requested!r}: a call raises; there are {op.names}")
        chosen = _chosen(op, requested)
        width = max(10, *map(len, op.names))
        for backend in op:
            reasons = backend.unavailable()
            state = "off" if reasons else "runs" if backend.name == chosen else "available"
            lines.append(f"  {backend.name:{width}} {state:10} {backend.summary}")
            lines += [f"  {'':{width}} {'':10} {reason}" for reason in reasons]
    return "\n".join(lines)


def _chosen(op: BackendSet, requested: str) -> str | None:
    if requested != "auto":
        return requested
    runs = (each for each in op if not (each.unavailable() or each.only_by_name()))
    return next((backend.name for backend in runs), None)


def main() -> int:
    """Print everything; 1 if every run would fail."""
    problems = find_problems()
    print("\n".join([report(problems), "", describe_threads(), describe_backends()]))
    requested = requested_backend()
    runs_somewhere = requested == "auto" or any(
        requested in op.names and not op[requested].unavailable() for op in OPS
    )
    return int(not runs_somewhere or any(problem.severity == "error" for problem in problems))


if __name__ == "__main__":
    sys.exit(main())
