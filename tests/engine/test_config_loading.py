"""Configs that cannot be read and options that would change nothing are refused with the reason."""

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
    cfg = read_config(config, options)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler[0].begin) == (0.2, 5)
    assert cfg.compile is True


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("train_dataloder.batch_size", "train_dataloder is no key of the config"),
        ("rate", r"rate is a variable of the config file, .*optim_wrapper, param_scheduler, train"),
        ("param_scheduler.3.begin", "do not fit the config: Index 3 exceeds"),
        (
            "train_dataloader.batch_size.x",
            "do not fit the config: batch_size=.*of type <class 'int",
        ),
    ],
)
def test_options_that_would_change_nothing(config: Path, option: str, problem: str):
    with pytest.raises(SetupError, match=f"(?s){problem}"):
        read_config(config, {option: 1})
