"""The set-up's decisions, without a network and without an environment being built."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path) -> Path:
    """A folder with the files that a stamp depends on."""
    (tmp_path / "requirements").mkdir()
    for name in ("requirements/constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    source = tmp_path / "kernels" / "csrc" / "scan.cpp"
    source.parent.mkdir(parents=True)
    source.write_text("int answer() { return 42; }")
    (tmp_path / "mmcv_ops").mkdir()
    (tmp_path / "mmcv_ops" / "boxes.py").write_text("BLOCK = 42")
    return tmp_path


def finished_environment(setup, repository: Path, torch: str = "") -> Path:
    folder = repository / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "setup.log").touch()
    stamp = setup.env.wanted_stamp(repository, "onedl", "3.11", torch, "", None)
    setup.env.write_stamp(folder, stamp)
    return folder


def plan_again(
    setup, repository: Path, python: str = "", torch: str = "", operators: str = ""
) -> tuple[str, str]:
    folder = repository / ".venv"
    previous = setup.env.read_stamp(folder)
    wanted = setup.env.wanted_stamp(repository, "onedl", python, torch, operators, previous)
    return setup.env.plan(folder, previous, wanted)


def test_a_finished_environment_needs_nothing(setup, repository):
    finished_environment(setup, repository)
    assert plan_again(setup, repository)[0] == "nothing"


def test_no_environment_is_created(setup, repository):
    assert plan_again(setup, repository, python="3.11")[0] == "create"


def test_a_missing_stamp_means_half_built(setup, repository):
    folder = finished_environment(setup, repository)
    (folder / "stamp.json").unlink()
    action, reason = plan_again(setup, repository)
    assert action == "rebuild"
    assert "half-built" in reason


def test_a_truncated_stamp_or_a_vanished_python_means_half_built(setup, repository):
    folder = finished_environment(setup, repository)
    whole = (folder / "stamp.json").read_text()
    (folder / "stamp.json").write_text(whole[:20])
    assert "half-built" in plan_again(setup, repository)[1]
    (folder / "stamp.json").write_text(whole)
    assert plan_again(setup, repository)[0] == "nothing"
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nonexistent/python3.11")
    assert "half-built" in plan_again(setup, repository)[1]


def test_an_environment_of_somebody_else_is_not_touched(setup, repository):
    folder = finished_environment(setup, repository)
    (folder / "stamp.json").unlink()
    (folder / "setup.log").unlink()
    with pytest.raises(setup.checks.SetupError, match="was not made by `make env`"):
        plan_again(setup, repository)
    setup.env.clean(repository)
    assert folder.exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("requirements/constraints.txt", "yapf==", "yapf==9", "requirements/constraints.txt"),
        ("pyproject.toml", '"pytest"', '"pytest", "tomli"', "pyproject.toml"),
        ("kernels/csrc/scan.cpp", "42", "43", "kernels/"),
        ("mmcv_ops/boxes.py", "42", "43", "mmcv_ops/"),
    ],
)
def test_changed_pins_dependencies_and_sources_update(setup, repository, name, old, new, told):
    finished_environment(setup, repository)
    path = repository / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    action, reason = plan_again(setup, repository)
    assert action == "update"
    assert f"{told} changed" in reason


def test_tool_settings_in_pyproject_do_not_matter(setup, repository):
    finished_environment(setup, repository)
    path = repository / "pyproject.toml"
    path.write_text(path.read_text() + '\n[tool.other]\nsetting = "new"\n')
    assert plan_again(setup, repository)[0] == "nothing"


def test_another_python_or_torch_rebuilds_and_says_so(setup, repository):
    finished_environment(setup, repository)
    action, reason = plan_again(setup, repository, python="3.12", torch="2.8.0")
    assert action == "rebuild"
    assert "python 3.11 -> 3.12" in reason
    assert "torch 2.11.0 -> 2.8.0" in reason


def test_a_chosen_torch_is_kept_and_the_default_follows_the_constraints(setup, repository):
    constraints = repository / "requirements" / "constraints.txt"
    finished_environment(setup, repository, torch="2.8.0")
    assert plan_again(setup, repository)[0] == "nothing"
    assert plan_again(setup, repository, torch="2.11.0")[0] == "rebuild"
    setup.env.discard(repository / ".venv")
    finished_environment(setup, repository)
    constraints.write_text(constraints.read_text().replace("torch==2.11.0", "torch==2.12.0"))
    assert plan_again(setup, repository)[0] == "rebuild"


def test_other_operators_update_and_are_kept(setup, repository):
    finished_environment(setup, repository)
    assert plan_again(setup, repository, operators="torchvision")[0] == "nothing"
    action, reason = plan_again(setup, repository, operators="compiled")
    assert action == "update"
    assert reason == "OPS changed: updating .venv"
    folder = repository / ".venv"
    previous = setup.env.read_stamp(folder)
    wanted = setup.env.wanted_stamp(repository, "onedl", "", "", "compiled", previous)
    setup.env.write_stamp(folder, wanted)
    assert plan_again(setup, repository)[0] == "nothing"
    assert plan_again(setup, repository, operators="torchvision")[0] == "update"


def test_torch_from_elsewhere_is_kept_and_makes_another_environment(setup, repository):
    finished_environment(setup, repository)
    folder = repository / ".venv"
    before = setup.env.read_stamp(folder)
    assert "torch_index" not in before
    arguments = (repository, "onedl", "", "", "")
    wanted = setup.env.wanted_stamp(*arguments, before, "https://index.example/cpu")
    action, reason = setup.env.plan(folder, before, wanted)
    assert action == "rebuild"
    assert "torch_index None -> https://index.example/cpu" in reason
    setup.env.write_stamp(folder, wanted)
    assert plan_again(setup, repository)[0] == "nothing"
    assert setup.env.wanted_stamp(*arguments, wanted) == wanted


def test_torch_comes_from_an_index_or_a_folder(setup, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    monkeypatch.chdir(tmp_path)
    options = setup.env.index_options
    assert options("https://a.example/cpu") == ["--no-deps", "--index-url", "https://a.example/cpu"]
    assert options("wheels")[1:] == ["--no-index", "--find-links", str(tmp_path / "wheels")]
    with pytest.raises(setup.checks.SetupError, match=r"TORCH_INDEX=cpu: need the address"):
        options("cpu")


@pytest.mark.parametrize("index", ["", "file:///wheels"])
def test_only_torch_itself_comes_from_its_index(
    setup, repository, environment, interpreter, monkeypatch, index
):
    environment.root, steps = repository, []
    environment.step = lambda title, command, **_: steps.append(command)
    for name in ("find_torch", "install_operators", "install_kernels"):
        monkeypatch.setattr(setup.env, name, lambda *_: None)
    wanted = setup.env.wanted_stamp(repository, "onedl", "3.11", "", "", None, index)
    setup.env.build(environment, wanted, interpreter(), from_scratch=False)
    torch = [command for command in steps if "torch" in command]
    assert ["--index-url" in command for command in torch] == [True, False][not index :]
    assert sum("--index-url" in command for command in steps) == bool(index)
    assert torch[-1][-3:] == ["torch", "torchvision", "numpy"]
    assert all(str(environment.constraints) in command for command in torch)


def test_an_update_is_made_for_the_python_that_the_environment_has(
    setup, repository, interpreter, monkeypatch
):
    """Not for the first that is found: a wheel compiled for that would be one for another."""
    folder = finished_environment(setup, repository)
    constraints = repository / "requirements" / "constraints.txt"
    constraints.write_text(constraints.read_text() + "\n")
    asked = []

    def choose(requested: str):
        asked.append(requested)
        return interpreter((3, 11, 7) if requested else (3, 12, 1))

    built = []
    monkeypatch.setattr(setup.env, "choose_interpreter", choose)
    monkeypatch.setattr(
        setup.env, "build", lambda env, wanted, python, scratch: built.append(python)
    )
    setup.env.set_up(repository, "onedl", "", "", "")
    assert asked == ["", str(folder / "bin" / "python")]
    assert built[0].minor == "3.11"


def test_a_moved_repository_rebuilds(setup, repository, tmp_path_factory):
    finished_environment(setup, repository)
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    repository.rename(moved)
    assert "repository" in plan_again(setup, moved)[1]


def test_discard_removes_what_an_interrupted_discard_left(setup, repository):
    folder = finished_environment(setup, repository)
    folder.rename(repository / ".venv.discarded")
    finished_environment(setup, repository)
    setup.env.discard(folder)
    assert not folder.exists()
    assert not (repository / ".venv.discarded").exists()


def test_a_finished_environment_returns_without_starting_anything(
    setup, repository, monkeypatch, capsys
):
    finished_environment(setup, repository)
    monkeypatch.setattr(subprocess, "Popen", None)
    setup.env.set_up(repository, "onedl", "", "", "")
    assert capsys.readouterr().out == ""


def test_two_processes_do_not_work_on_one_environment(setup, tmp_path):
    folder = tmp_path / ".venv"
    path = tmp_path / "build" / ".venv.lock"
    with setup.env.locked(tmp_path, folder), open(path) as second, pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path) as third:
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_default_torch_keeps_every_pin(setup):
    constraints = (ROOT / "requirements" / "constraints.txt").read_text()
    assert setup.env.constraints_for(constraints, "2.11.0") == constraints


@pytest.mark.parametrize(
    ("torch", "torchvision"), [("2.6.0", "0.21.*"), ("2.8.0", "0.23.*"), ("2.10.0+cpu", "0.25.*")]
)
def test_another_torch_takes_its_torchvision_and_its_own_pins(setup, torch, torchvision):
    constraints = (ROOT / "requirements" / "constraints.txt").read_text()
    lines = setup.env.constraints_for(constraints, torch).splitlines()
    assert f"torch=={torch}" in lines
    assert f"torchvision=={torchvision}" in lines
    assert not any(line.startswith(("sympy==", "torch==2.11", "triton==")) for line in lines)
    assert "numpy==2.2.6" in lines


@pytest.mark.parametrize("torch", ["1.13.1", "2.5.1", "latest"])
def test_an_unsupported_torch_is_refused(setup, torch):
    constraints = (ROOT / "requirements" / "constraints.txt").read_text()
    with pytest.raises(setup.checks.SetupError, match=r"from 2\.6 on"):
        setup.env.constraints_for(constraints, torch)


def test_the_first_interpreter_that_runs_and_fits_is_chosen(setup, interpreter):
    answers = {
        "python3.11": None,  # a pyenv shim of a version that is not selected
        "python3.12": None,
        "python3.10": interpreter((3, 10, 13)),
        "python3": interpreter(),
    }
    assert setup.checks.choose_interpreter("", answers.get).minor == "3.10"
    answers["python3.12"] = interpreter((3, 12, 1))
    assert setup.checks.choose_interpreter("", answers.get).minor == "3.12"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ((3, 8, 10), "Python too old: need 3.10-3.12, got python3 is 3.8"),
        ((3, 13, 0), "Python too new: need 3.10-3.12, got python3 is 3.13"),
    ],
)
def test_only_unsuitable_interpreters(setup, version, message, interpreter):
    answers = {"python3": interpreter(version)}
    with pytest.raises(setup.checks.SetupError, match=message):
        setup.checks.choose_interpreter("", answers.get)


def test_the_interpreter_asked_for_is_not_replaced_by_another(setup, interpreter):
    answers = {
        "python3.11": interpreter(),
        "old": interpreter((3, 8, 18)),
    }
    with pytest.raises(setup.checks.SetupError, match=r"Python too old: need .*, got 3.8"):
        setup.checks.choose_interpreter("old", answers.get)
    with pytest.raises(setup.checks.SetupError, match="PYTHON=absent does not run"):
        setup.checks.choose_interpreter("absent", answers.get)


def test_probe_tells_a_working_interpreter_from_a_failing_shim(setup, tmp_path):
    found = setup.checks.probe(sys.executable)
    assert found.version == sys.version_info[:3]
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert setup.checks.probe(str(shim)) is None
    assert setup.checks.probe(str(tmp_path / "absent")) is None


def test_missing_venv_module_compiler_and_headers_say_what_to_install(
    setup, monkeypatch, interpreter
):
    monkeypatch.delenv("CXX", raising=False)
    error = setup.checks.SetupError
    with pytest.raises(error, match=r"has no ensurepip module(.|\n)*python3.11-venv"):
        setup.checks.check_venv_modules(interpreter(missing=["ensurepip"]))
    with pytest.raises(error, match=r"`c\+\+` is not on PATH(.|\n)*apt install g\+\+"):
        setup.checks.check_build_tools(interpreter(), which=lambda name: None)
    with pytest.raises(error, match=r"No Python.h(.|\n)*python3.11-dev"):
        setup.checks.check_build_tools(
            interpreter(headers=False), which=lambda name: "/usr/bin/c++"
        )


@pytest.mark.parametrize(("cxx", "looked_for"), [("ccache g++", "ccache"), ("", "c++")])
def test_a_compiler_may_have_a_launcher(setup, interpreter, monkeypatch, cxx, looked_for):
    monkeypatch.setenv("CXX", cxx)
    asked = []
    setup.checks.check_build_tools(interpreter(), which=lambda name: asked.append(name) or name)
    assert asked == [looked_for]


def test_disk_needs_on_one_filesystem_add_up(setup, tmp_path):
    folders = {tmp_path / "absent" / "venv": 6.0, tmp_path: 3.0}
    setup.checks.check_disk(folders, lambda path: int(9.5 * 2**30))
    with pytest.raises(setup.checks.SetupError, match=r"9.0 GiB needed, 8.0 GiB free"):
        setup.checks.check_disk(folders, lambda path: 8 * 2**30)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "Collecting torch\n  Downloading torch-2.11.0.whl (700 MB)\n",
            "Downloading torch-2.11.0.whl",
        ),
        (
            "  [1/78] c++ -MMD -c /a/nms.cpp -o x\n  [2/78] c++ -c /a/roi.cpp -o",
            "compiled 2 of 78 roi.cpp",
        ),
        ("nothing to see", ""),
    ],
)
def test_the_log_says_what_is_going_on(setup, output, expected):
    assert setup.steps.last_activity(output).startswith(expected)


def test_a_failing_step_reports_its_end_the_log_and_the_command_to_rerun(setup, environment):
    code = "print('no route to host'); raise SystemExit(3)"
    with pytest.raises(setup.checks.SetupError) as failure:
        environment.step("torch", [sys.executable, "-c", code])
    for part in ("no route to host", "status 3", str(environment.log), "make env FLAVOUR=onedl"):
        assert part in str(failure.value)
    assert "no route to host" in environment.log.read_text()


def test_settings_of_pip_do_not_send_packages_elsewhere(setup, environment, monkeypatch):
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    again = setup.steps.Environment(environment.folder, environment.root, "", environment.lock)
    assert "PIP_TARGET" not in again.variables
    assert again.variables["PIP_USER"] == "0"


def test_the_lock_outlives_a_killed_setup_until_its_command_ends(setup, environment):
    fcntl.flock(environment.lock, fcntl.LOCK_EX)
    lock = f"fcntl.flock({environment.lock}, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    code = f"import fcntl; {lock}; print('held')"
    environment.step("command", [sys.executable, "-c", code])
    assert "held" in environment.log.read_text()


def test_every_distribution_of_both_flavours_is_pinned(setup):
    constraints = (ROOT / "requirements" / "constraints.txt").read_text()
    for name in (*setup.env.MMCV.values(), "torch", "mmdet", "onedl-mmdetection", "ruff", "pytest"):
        assert setup.env.pinned(constraints, name)[0].isdigit()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_refuses_an_unknown_flavour_and_forgets_other_python_settings(tmp_path):
    """A PYTHONPATH of other software would come before the environment's own packages."""
    (tmp_path / "argparse.py").write_text("raise ImportError('of another installation')")
    diverting = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)}
    done = subprocess.run(
        ["make", "-C", str(ROOT), "env", "FLAVOUR=other"],
        capture_output=True,
        text=True,
        env={**os.environ, **diverting},
    )
    assert done.returncode == 2
    assert "FLAVOUR=other: need one of onedl, openmmlab" in done.stderr


def test_make_refuses_unknown_operators():
    done = subprocess.run(
        ["make", "-C", str(ROOT), "env", "OPS=cuda"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "OPS=cuda: need one of torchvision, compiled." in done.stderr


def test_the_stamp_is_readable(setup, repository):
    folder = finished_environment(setup, repository)
    stamp = json.loads((folder / "stamp.json").read_text())
    assert stamp["torch"] == "2.11.0"
    assert stamp["flavour"] == "onedl"
