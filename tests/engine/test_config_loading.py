"""Configs that cannot be read are refused with the reason; options that nothing reads, named."""

import re
from pathlib import Path

import pytest

from mmquad.engine.config_loading import read_config
from mmquad.errors import SetupError

CONFIG = """
rate = 0.1
optim_wrapper = dict(optimizer=dict(lr=rate))
param_scheduler = [dict(begin=0)]
train_dataloader = dict(batch_size=2)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model = dict(", r"cannot be read: '\(' was never closed"),
        ("_base_ = './gone.py'", r"cannot be read: .*No such file.*gone\.py"),
        ("_base_ = 'notes.txt'", r"cannot be read: Only py/yml/yaml/json"),
    ],
)
def test_what_cannot_be_read(config: Path, text: str, problem: str):
    config.with_name("notes.txt").write_text("x")
    config.write_text(text)
    with pytest.raises(SetupError, match=f"(?s)The config {re.escape(str(config))} {problem}"):
        read_config(config)


def test_options_change_what_a_run_reads(config: Path):
    options = {"optim_wrapper.optimizer.lr": 0.2, "param_scheduler.0.begin": 5, "compile": True}
    cfg = read_config(config, options, pytest.fail)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler[0].begin) == (0.2, 5)
    assert cfg.compile is True


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (
            "train_dataloder.batch_size",
            r"train_dataloder is no key of the config; did you mean train_dataloader\?",
        ),
        ("my_key", r"my_key is no key of the config\.\n.*if your own code reads it"),
        ("rate", r"rate is a variable of the config file, .*optim_wrapper, param_scheduler, train"),
    ],
)
def test_options_that_nothing_here_reads(config: Path, option: str, problem: str, monkeypatch):
    """A hook of one's own may read them (``runner.cfg.my_key``), so they are set."""
    warned: list[str] = []
    cfg = read_config(config, {option: 3}, warned.append)
    (warning,) = warned
    assert re.search(f"(?s)The option {option} may change nothing: {problem}", warning)
    value = cfg
    for word in option.split("."):
        value = value[word]
    assert value == 3
    monkeypatch.setenv("MMQUAD_CHECKS", "-unread-options")
    read_config(config, {option: 3}, pytest.fail)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("param_scheduler.3.begin", "do not fit the config: Index 3 exceeds"),
        (
            "train_dataloader.batch_size.x",
            "do not fit the config: batch_size=.*of type <class 'int",
        ),
    ],
)
def test_options_that_do_not_fit(config: Path, option: str, problem: str):
    with pytest.raises(SetupError, match=f"(?s){problem}"):
        read_config(config, {option: 1})
