"""Installing a pure-Python mmcv: what pip is asked for, and what goes wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmcv_ops_torchvision import install


@pytest.fixture
def pip(monkeypatch):
    """Records pip's command lines and variables; `pip.wheel` is what building gives."""

    class Pip:
        wheel = "mmcv-2.1.0-py3-none-any.whl"
        status, output = 0, ""

        def __init__(self):
            self.calls = []

        def __call__(self, command, env, **options):
            self.calls.append((command, env))
            if "wheel" in command and not self.status:
                (Path(command[command.index("--wheel-dir") + 1]) / self.wheel).touch()
            return subprocess.CompletedProcess(command, self.status, self.output)

    recorder = Pip()
    monkeypatch.setattr(install.subprocess, "run", recorder)
    return recorder


def test_it_builds_in_isolation_from_source_and_replaces_what_is_there(pip, monkeypatch):
    for name in ("PYTHONPATH", "MMCV_WITH_OPS", "PIP_NO_BUILD_ISOLATION"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("PIP_CONSTRAINT", "mine.txt")
    install.install("mmcv==2.1.0")
    (build, variables), (replace, _), (complete, _) = pip.calls
    assert build[:4] == [sys.executable, "-m", "pip", "wheel"]
    assert "--no-binary=mmcv" in build
    assert "--no-build-isolation" not in build
    assert not {"PYTHONPATH", "MMCV_WITH_OPS", "PIP_NO_BUILD_ISOLATION"} & set(variables)
    assert variables["PIP_CONSTRAINT"].startswith("mine.txt file:")
    assert variables["PIP_BUILD_CONSTRAINT"].endswith("build-constraint.txt")
    assert {"--no-deps", "--force-reinstall"} <= set(replace)
    assert not {"--no-deps", "--force-reinstall"} & set(complete)


def test_mmcv_alone(pip):
    install.install("onedl-mmcv==2.3.6", dependencies=False)
    assert len(pip.calls) == 2


def test_a_wheel_with_compiled_parts_is_refused(pip):
    pip.wheel = "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
    with pytest.raises(install.InstallError, match="built with compiled parts"):
        install.install("mmcv==2.1.0")
    assert len(pip.calls) == 1


def test_a_failed_build_shows_its_last_lines(pip, capsys):
    pip.status, pip.output = 1, "\n".join(f"line {number}" for number in range(20))
    assert install.main(["install", "mmcv==2.1.0"]) == 1
    said = capsys.readouterr().err
    assert "building mmcv==2.1.0 without operators: pip ended with status 1" in said
    assert "line 19" in said
    assert "line 7\n" not in said


@pytest.mark.parametrize(
    ("operators", "status"), [("none", 1), ("torchvision", 0), ("compiled", 0)]
)
def test_without_a_command_it_tells_what_is_in_use(monkeypatch, capsys, operators, status):
    monkeypatch.setattr(install, "operators_in_use", lambda: operators)
    assert install.main([]) == status
    said = capsys.readouterr().out
    expected = {"none": "none", "torchvision": "from torchvision", "compiled": "its own, compiled"}
    assert f"operators: {expected[operators]}" in said


def test_it_needs_neither_torch_nor_mmcv():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from mmcv_ops_torchvision import install; install.status()\n"
        "assert not {'torch', 'mmcv', 'torchvision'} & set(sys.modules)"
    )
    folder = str(Path(install.__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code, folder], check=True, env=dict(os.environ))
