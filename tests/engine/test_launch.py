"""Command-line options become the config the hosts' tools would make, or a clear refusal."""

import os
from pathlib import Path

import pytest
import torch

from mmquad.engine import launch
from mmquad.engine.launch import plan_test, plan_training
from mmquad.environment import Problem
from mmquad.errors import SetupError

CONFIG = """
default_scope = 'mmdet'
model = dict(type='Model')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=True, prefetch_factor=2,
    dataset=dict(type='CocoDataset', data_root='data', ann_file='train.json'))
val_dataloader = dict(
    batch_size=1, num_workers=1, persistent_workers=True,
    dataset=dict(type='CocoDataset', data_root='data', ann_file='train.json'))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file='data/train.json')
test_evaluator = val_evaluator
load_from = None
"""
CLASS_CHECK = {"type": "mmquad.ClassCheckHook"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("data").mkdir()
    Path("data/train.json").write_text('{"images": [1], "annotations": [1], "categories": [1]}')
    Path("my_config.py").write_text(CONFIG)
    return "my_config.py"


def test_work_dir_is_the_option_or_the_config_name(config: str):
    assert plan_training(config).cfg.work_dir == "work_dirs/my_config"
    assert plan_training(config, work_dir="here").cfg.work_dir == "here"
    plan = plan_training(config, cfg_options={"work_dir": "there"})
    assert plan.cfg.work_dir == "there"


def test_worker_options_follow_the_number_of_workers(config: str):
    plan = plan_training(config)
    assert "persistent_workers" not in plan.cfg.train_dataloader
    assert "prefetch_factor" not in plan.cfg.train_dataloader
    assert plan.cfg.val_dataloader.persistent_workers is True
    assert [note for note in plan.notes if "persistent_workers is off" in note]


def test_problems_of_the_environment_stop_the_run_with_their_fixes(config: str, monkeypatch):
    asked = []

    def find_problems(task: str) -> list[Problem]:
        asked.append(task)
        return [Problem(severity, "mmcv has no ops.", "reinstall mmcv")]

    monkeypatch.setattr(launch, "find_problems", find_problems)
    severity = "warning"
    assert "mmcv has no ops. Fix: reinstall mmcv" in plan_training(config).notes
    severity = "error"
    with pytest.raises(SetupError, match=r"error: mmcv has no ops\.\n  fix: reinstall mmcv"):
        plan_training(config)
    assert asked == ["det", "det"]


def test_a_library_that_is_not_installed_is_named(config: str):
    Path(config).write_text("_base_ = 'mmrotate::_base_/default_runtime.py'")
    with pytest.raises(SetupError, match=r"mmrotate.*\n.*python -m mmquad\.environment"):
        plan_training(config)


def test_missing_data_is_found_before_anything_is_built(config: str):
    Path("data/train.json").unlink()
    with pytest.raises(SetupError, match="1 of the 1 paths"):
        plan_training(config)


def test_an_argument_that_its_class_does_not_take(config: str, monkeypatch):
    wrong = {"optim_wrapper.optimizer.lrr": 0.1}
    with pytest.raises(SetupError, match=r"SGD takes no lrr.\n.*: optim_wrapper\.optimizer\.lr\?"):
        plan_training(config, cfg_options=wrong)
    monkeypatch.setenv("MMQUAD_CHECKS", "-option-arguments")
    assert plan_training(config, cfg_options=wrong).cfg.optim_wrapper.optimizer.lrr == 0.1


def test_guesses_are_warnings_of_the_plan(config: str):
    (warning,) = plan_training(config, cfg_options={"my_key": 3}).warnings
    assert "my_key may change nothing" in warning
    assert plan_training(config).warnings == []


def test_configs_without_the_class_check_get_it_once(config: str):
    torch.save({}, "weights.pth")
    ours = [CLASS_CHECK, {"type": "mmquad.EpochSeedHook"}]
    for custom_hooks, expected in ((None, [CLASS_CHECK]), (ours, ours), (ours[1:], ours[::-1])):
        options = {"custom_hooks": custom_hooks}
        assert plan_training(config, cfg_options=options).cfg.custom_hooks == expected
        tested = plan_test(config, "weights.pth", cfg_options=options).cfg.custom_hooks
        assert tested.count(CLASS_CHECK) == 1


def test_without_checks_nothing_is_looked_at(config: str, monkeypatch):
    Path("data/train.json").unlink()
    torch.save({}, "weights.pth")
    Path("weights.pth").write_bytes(Path("weights.pth").read_bytes()[:99])
    monkeypatch.setattr(launch, "find_problems", pytest.fail)
    monkeypatch.setenv("MMQUAD_CHECKS", "0")
    options = {"my_key": 3, "optim_wrapper.optimizer.lrr": 0.1}
    for plan in (
        plan_training(config, resume="weights.pth", cfg_options=options, work_dir="data/train"),
        plan_test(config, "weights.pth", cfg_options=options),
        plan_test(config, "gone.pth"),
    ):
        assert plan.warnings == []


def test_data_root_option(config: str, tmp_path: Path):
    Path("data").rename("moved")
    plan = plan_training(config, data_root=str(tmp_path / "moved"))
    assert plan.cfg.val_evaluator.ann_file == str(tmp_path / "moved/train.json")


def test_amp_is_refused_on_cpu_and_set_on_gpu(config: str, monkeypatch):
    with pytest.raises(SetupError, match="needs a GPU"):
        plan_training(config, amp=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    optim_wrapper = plan_training(config, amp=True).cfg.optim_wrapper
    assert (optim_wrapper.type, optim_wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")
    with pytest.raises(SetupError, match=r"optim_wrapper\.type is Mine"):
        plan_training(config, amp=True, cfg_options={"optim_wrapper.type": "Mine"})


def test_decay_of_state_space_parameters_is_noted(config: str):
    options = {
        "model.backbone": {"type": "mmquad.Vim"},
        "optim_wrapper.optimizer.weight_decay": 0.1,
    }
    (note,) = (n for n in plan_training(config, cfg_options=options).warnings if "decay" in n)
    assert "optim_wrapper.constructor='mmquad.StateSpaceOptimWrapperConstructor'" in note
    options["optim_wrapper.constructor"] = "mmquad.StateSpaceOptimWrapperConstructor"
    assert not any("decay" in n for n in plan_training(config, cfg_options=options).warnings)


def test_auto_scale_lr_needs_the_base_batch_size(config: str):
    with pytest.raises(SetupError, match="base_batch_size"):
        plan_training(config, auto_scale_lr=True)
    options = {"auto_scale_lr": {"base_batch_size": 16}}
    assert plan_training(config, auto_scale_lr=True, cfg_options=options).cfg.auto_scale_lr.enable


def test_resume_without_a_checkpoint_starts_and_says_so(config: str):
    plan = plan_training(config, resume="auto")
    assert plan.cfg.resume is False
    assert any("Nothing to resume" in note for note in plan.notes)
    assert plan_training(config, cfg_options={"resume": True}).cfg.resume is False
    torch.save({}, "pretrained.pth")
    plan = plan_training(config, resume="auto", cfg_options={"load_from": "pretrained.pth"})
    assert plan.cfg.load_from == "pretrained.pth"
    hook = {"type": "mmquad.StrictWeightsHook", "backbone_only": True}
    assert plan.cfg.custom_hooks == [hook, CLASS_CHECK]


def test_resume_finds_the_latest_checkpoint_of_a_moved_work_dir(config: str):
    work_dir = Path("work_dirs/my_config")
    work_dir.mkdir(parents=True)
    (work_dir / "last_checkpoint").write_text("/gone/epoch_2.pth")
    with pytest.raises(SetupError, match=r"names /gone/epoch_2\.pth, which cannot be used"):
        plan_training(config, resume="auto")
    torch.save({}, work_dir / "epoch_2.pth")
    plan = plan_training(config, resume="auto")
    assert (plan.cfg.resume, plan.cfg.load_from) == (True, str(work_dir / "epoch_2.pth"))
    # also where the config asks for it, as mmengine understands it
    asked = plan_training(config, cfg_options={"resume": True}).cfg
    assert (asked.resume, asked.load_from) == (True, plan.cfg.load_from)
    hook = {"type": "mmquad.StrictWeightsHook", "backbone_only": False}
    assert plan.cfg.custom_hooks == [hook, CLASS_CHECK]


def test_starting_anew_over_an_earlier_training_is_said(config: str):
    assert not any("earlier training" in note for note in plan_training(config).notes)
    Path("here").mkdir()
    for name in ("epoch_1.pth", "epoch_2.pth", "best_epoch_1.pth"):
        (Path("here") / name).touch()
    os.utime("here/epoch_1.pth", (0, 0))
    (note,) = (n for n in plan_training(config, work_dir="here").notes if "earlier" in n)
    assert note.startswith("here holds 2 checkpoints of an earlier training, up to epoch_2.pth")


def test_results_that_could_not_be_written_are_refused_at_the_start(config: str):
    torch.save({}, "weights.pth")
    with pytest.raises(SetupError, match=r"(?s)Nothing can be written in .*my_config.*--out"):
        plan_test(config, "weights.pth", out="my_config.py/results.pkl")
    with pytest.raises(SetupError, match="--work-dir"):
        plan_training(config, work_dir="my_config.py")


def test_resume_from_a_path(config: str):
    with pytest.raises(SetupError, match=r"to resume not found: epoch_1\.pth"):
        plan_training(config, resume="epoch_1.pth")
    torch.save({}, "epoch_1.pth")
    plan = plan_training(config, resume="epoch_1.pth")
    assert (plan.cfg.resume, plan.cfg.load_from) == (True, "epoch_1.pth")


def test_missing_config_and_unknown_library(config: str):
    with pytest.raises(SetupError, match=r"Config not found: other\.py"):
        plan_training("other.py")
    with pytest.raises(SetupError, match="default_scope must be one of mmdet, mmseg, mmpretrain"):
        plan_training(config, cfg_options={"default_scope": "mmpose"})


def test_test_needs_its_checkpoint_only(config: str):
    missing = {"model.init_cfg": {"type": "Pretrained", "checkpoint": "no.pth"}}
    with pytest.raises(SetupError, match=r"to test cannot be used: weights\.pth does not exist"):
        plan_test(config, "weights.pth")
    torch.save({}, "weights.pth")
    assert plan_test(config, "weights.pth", cfg_options=missing).cfg.load_from == "weights.pth"
    with pytest.raises(SetupError, match=r"no\.pth does not exist"):
        plan_training(config, cfg_options=missing)
