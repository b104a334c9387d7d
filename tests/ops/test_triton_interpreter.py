"""Runs test_triton_scan.py in Triton's interpreter, and what is said where Triton cannot run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmquad.ops import directional_scan
from mmquad.ops import triton as availability
from mmquad.ops.directional_scan import BACKENDS

BODIES = Path(__file__).with_name("test_triton_scan.py")


def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at its first import whether it interprets."""
    pytest.importorskip("triton", minversion="3.3")  # torch 2.6 brings 3.2
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("MMQUAD_BACKEND", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(BODIES)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed.group(1)) >= 25, done.stdout
    others = set(re.findall(r"SKIPPED .*: (.*)", done.stdout))
    assert others <= {"too many tokens for the interpreter"}, done.stdout


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.usefixtures("no_interpreter")
def test_reasons_for_being_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_import_problem", lambda: "triton is not installed")
    assert availability.triton_unavailable() == ["triton is not installed"]
    monkeypatch.setattr(availability, "_import_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA or ROCm device" in availability.triton_unavailable()[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CC", "cc")
    assert availability.triton_unavailable() == []
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert "C compiler" in availability.triton_unavailable()[0]


@pytest.mark.parametrize(("version", "fits"), [("3.2.0", False), ("3.3.1", True), ("4.0", True)])
def test_old_versions_lack_what_the_kernels_need(
    version: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton, "__version__", version)
    problem = availability._import_problem.__wrapped__()
    assert (problem is None) == fits
    assert fits or f"needs triton 3.3 or later (torch 2.7), found {version}" == problem


@pytest.mark.usefixtures("no_interpreter")
def test_cpu_tensors_are_refused() -> None:
    x = torch.zeros(1, 2, 3)
    assert availability.unsupported_tokens("x", x) == ["runs on cuda, x is on cpu"]
    problems = BACKENDS["triton"].unavailable()
    inputs = {"dt_weight": x[:, :1, :1].expand(1, 3, 1), "A": x[:, :1, :1].expand(1, 3, 1)}
    table = torch.arange(2)[None, None]
    with pytest.raises(ValueError, match="backend 'triton' was chosen explicitly and cannot run"):
        directional_scan(
            x, x, **inputs, dt_bias=x[:, 0], D_skip=x[:, 0], order=table, inverse=table,
            backend="triton",
        )  # fmt: skip
    assert problems or torch.cuda.is_available()


def test_the_package_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None  # importing it raises from now on\n"
        "import mmquad.ops\n"
        "from mmquad.ops.directional_scan import BACKENDS\n"
        "assert 'triton is not installed' in BACKENDS['triton'].unavailable()[0]\n"
        "assert not [name for name in sys.modules if name.endswith('triton_forward')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
