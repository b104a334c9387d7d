"""The switch of all checks, and that the policy decides what is an error and what a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmquad.checks import policy
from mmquad.checks.policy import CHECKS, is_on, report, switch_off
from mmquad.engine.command_line import run_tool
from mmquad.errors import SetupError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("MMQUAD_CHECKS", "1")  # restored after what a test sets


@pytest.mark.parametrize(
    ("value", "off"),
    [
        ("", set()),
        ("1", set()),
        ("0", set(CHECKS)),
        ("-labels", {"labels"}),
        ("-labels,-finite", {"labels", "finite"}),
        (" -labels -finite ", {"labels", "finite"}),
    ],
)
def test_the_variable(value: str, off: set[str], monkeypatch):
    monkeypatch.setenv("MMQUAD_CHECKS", value)
    assert {name for name in CHECKS if not is_on(name)} == off
    monkeypatch.delenv("MMQUAD_CHECKS")
    assert all(map(is_on, CHECKS))


@pytest.mark.parametrize(
    ("value", "problem"),
    [("off", "must be 0"), ("labels", "must be 0"), ("-lables", "There is no check lables; there")],
)
def test_a_variable_that_says_nothing(value: str, problem: str, monkeypatch):
    monkeypatch.setenv("MMQUAD_CHECKS", value)
    with pytest.raises(SetupError, match=problem):
        is_on("labels")


def test_switching_off_adds_up_and_reaches_other_processes():
    switch_off(["labels"])
    switch_off(["finite"])
    code = (
        "from mmquad.checks.policy import *\nprint(*(name for name in CHECKS if not is_on(name)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"labels", "finite"}
    switch_off([])
    assert os.environ["MMQUAD_CHECKS"] == "-finite,-labels"
    switch_off(CHECKS)
    assert os.environ["MMQUAD_CHECKS"] == "0"
    with pytest.raises(SetupError, match="no check all; there are environment, "):
        switch_off(["all"])


def test_facts_are_errors_and_guesses_are_warnings():
    for name, check in CHECKS.items():
        warned: list[str] = []
        if check.kind == "fact":
            with pytest.raises(SetupError, match=rf"wrong\n.*MMQUAD_CHECKS=-{name}\)"):
                report(name, "wrong", warned.append)
            assert warned == []
        else:
            report(name, "wrong", warned.append)
            assert warned == [f"wrong\n(To run without this check: MMQUAD_CHECKS=-{name})"]
        switch_off([name])
        report(name, "wrong", pytest.fail)


def test_every_check_is_asked_for_and_no_other():
    """By a look at the code: a check that nothing asks for would be a row that is not true."""
    code = "".join(path.read_text() for path in (ROOT / "mmquad").rglob("*.py"))
    asked = set(re.findall(r'(?:is_on|report|Finding)\(\s*"([\w-]+)"', code))
    assert asked == set(CHECKS)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ([], "1"),
        (["--no-checks"], "0"),
        (["--skip-check", "labels", "--skip-check", "finite"], "-finite,-labels"),
    ],
)
def test_options_of_the_tools(options: list[str], value: str, monkeypatch, caplog):
    import argparse

    from mmquad.engine.command_line import add_run_options
    from mmquad.engine.launch import Plan

    parser = argparse.ArgumentParser()
    add_run_options(parser)
    given = parser.parse_args(["--check", *options])
    given.given = []
    seen = []

    def plan(**args) -> Plan:
        seen.append((os.environ["MMQUAD_CHECKS"], sorted(args)))
        return Plan(None, warnings=["look here"])

    run_tool("train", given, plan, pytest.fail)
    assert seen == [(value, ["cfg_options", "data_root", "launcher", "work_dir"])]
    assert "look here" in caplog.text
    given = parser.parse_args(["--skip-check", "everything"])
    given.given = []
    with pytest.raises(SystemExit, match="no check everything"):
        run_tool("train", given, plan, pytest.fail)


def test_the_page_has_the_table_of_the_policy():
    page = (ROOT / "docs/checks.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(c.name, c.kind, c.finds, c.when) for c in CHECKS.values()]
    assert policy.VARIABLE in page
