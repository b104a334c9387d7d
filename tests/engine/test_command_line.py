"""The options that training and testing share."""

import argparse
from types import SimpleNamespace

import pytest

from mmquad.engine import command_line
from mmquad.engine.command_line import add_run_options, run_tool
from mmquad.errors import OneProcessError, SetupError

WARNINGS = ["what may be wrong"]


@pytest.fixture
def parser(monkeypatch) -> argparse.ArgumentParser:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    add_run_options(parser)
    return parser


def call(parser: argparse.ArgumentParser, monkeypatch, *words: str, run=lambda plan: None) -> dict:
    planned = {}
    args = parser.parse_args(words)
    args.given = list(words)
    run_tool(
        "train",
        args,
        lambda **args: planned.update(args) or SimpleNamespace(**args, warnings=WARNINGS),
        run,
    )
    return planned


def test_options_given_twice_add_up(parser, monkeypatch):
    options = ["--cfg-options", "a.b=1", "c=x", "--work-dir", "w", "--cfg-options", "c=[2,3]"]
    planned = call(parser, monkeypatch, "config.py", *options)
    assert planned["cfg_options"] == {"a.b": 1, "c": [2, 3]}
    assert (planned["config"], planned["work_dir"]) == ("config.py", "w")


def test_an_option_without_a_value(parser, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(parser, monkeypatch, "config.py", "--cfg-options", "a.b")
    assert "--cfg-options takes KEY=VALUE, got 'a.b'" in capsys.readouterr().err


def test_a_check_shows_its_warnings_and_does_not_run(parser, monkeypatch, caplog):
    ran = []
    call(parser, monkeypatch, "config.py", run=ran.append)
    assert caplog.messages == []  # the run shows them itself
    call(parser, monkeypatch, "config.py", "--check", run=ran.append)
    assert len(ran) == 1
    assert caplog.messages == WARNINGS


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"])
def test_one_process_of_many_says_what_is_wrong(parser, monkeypatch, variable: str):
    def run(plan: object) -> None:
        raise SetupError("what is wrong")

    for rank, message in (("0", "\nwhat is wrong\n"), ("1", 1)):
        for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, rank)
        with pytest.raises(SystemExit) as ended:
            call(parser, monkeypatch, "config.py", run=run)
        assert ended.value.code == message


def test_a_process_says_what_it_may_have_met_alone(parser, monkeypatch):
    """A damaged image is in one process's share of the data: no other can say so."""

    def run(plan: object) -> None:
        raise OneProcessError("1 images cannot be read")

    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="1 images cannot be read"):
        call(parser, monkeypatch, "config.py", run=run)


def test_several_processes_are_started_after_the_checks(parser, monkeypatch):
    started, ran = [], []
    monkeypatch.setattr(command_line, "start_processes", lambda *args: started.append(args))
    call(parser, monkeypatch, "config.py", "--gpus", "2", run=ran.append)
    assert started == [("train", ["config.py", "--gpus", "2"], 2)]
    assert ran == []
    call(parser, monkeypatch, "config.py", "--gpus", "2", "--check", run=ran.append)
    call(parser, monkeypatch, "config.py", "--gpus", "1", run=ran.append)
    assert len(started) == len(ran) == 1
