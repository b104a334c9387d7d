"""Options that name no argument of the class at their place are found; nothing else is claimed."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS

from mmquad.checks.option_arguments import check_option_arguments, unknown_argument
from mmquad.errors import SetupError


class Closed:
    def __init__(self, width: int, parts: list | None = None) -> None: ...


class Open(Closed):
    def __init__(self, **kwargs) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def _hooks():
    HOOKS.register_module(name="mmquadClosed", module=Closed)
    HOOKS.register_module(name="mmquadOpen", module=Open)
    yield
    del HOOKS._module_dict["mmquadClosed"], HOOKS._module_dict["mmquadOpen"]


CONFIG = {
    "default_scope": "mmdet",
    "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}, "paramwise_cfg": {"a": 1}},
    "train_dataloader": {
        "batch_size": 2,
        "dataset": {
            "type": "RepeatDataset",
            "times": 2,
            "dataset": {"type": "CocoDataset", "pipeline": [{"type": "mmdet.RandomFlip"}]},
        },
    },
    "train_cfg": {"by_epoch": True, "max_epochs": 1},
    "val_cfg": {},
    "param_scheduler": [{"type": "MultiStepLR", "milestones": [1], "convert_to_iter_based": True}],
    "custom_hooks": [
        {"type": "mmquadClosed", "width": 1, "parts": [{"size": 1}]},
        {"type": "mmquadOpen", "depth": 1},
        {"type": "OfAnotherRepository", "depth": 1},
        {"type": Closed, "width": 1},
    ],
    "model": {"type": "RetinaNet", "test_cfg": {"anything": 1}},
    "my_own": {"anything": 1},
}


@pytest.mark.parametrize(
    "option",
    [
        "optim_wrapper.optimizer.lr",
        "optim_wrapper.optimizer.weight_decay",
        "optim_wrapper.clip_grad.max_norm",
        "optim_wrapper.accumulative_counts",
        "optim_wrapper.paramwise_cfg.custom_keys",
        "optim_wrapper.constructor",
        "train_dataloader.num_workers",
        "train_dataloader.collate_fn",
        "train_dataloader.num_batch_per_epoch",
        "train_dataloader.dataset.times",
        "train_dataloader.dataset.dataset.ann_file",  # **kwargs
        "train_dataloader.dataset.dataset.anything",
        "train_cfg.max_epochs",
        "train_cfg.val_interval",
        "train_cfg.by_epoch",
        "val_cfg.fp16",
        "param_scheduler.0.gamma",
        "param_scheduler.0.gama",  # **kwargs
        "custom_hooks.0.width",
        "custom_hooks.0.priority",
        "custom_hooks.0.parts.0.anything",  # a dictionary without type: its owner's business
        "custom_hooks.1.anything",
        "custom_hooks.2.anything",
        "model.test_cfg.rcnn",
        "my_own.thing",
        "my_key",
        "work_dir",
    ],
)
def test_arguments_that_may_be_there(option: str):
    assert unknown_argument(Config(CONFIG), option) is None


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (
            "optim_wrapper.optimizer.lrr",
            "SGD takes no lrr.\nWhat to do: optim_wrapper.optimizer.lr?",
        ),
        ("optim_wrapper.clip_gradd.max_norm", "optim_wrapper takes no clip_gradd.\nWhat to do: "),
        ("train_dataloader.batch_sizee", "train_dataloader takes no batch_sizee.\nWhat to do: tr"),
        ("train_dataloader.dataset.time", "RepeatDataset takes no time.\nWhat"),
        ("train_cfg.max_epoch", "train_cfg takes no max_epoch.\nWhat to do: train_cfg.max_epochs?"),
        ("train_cfg.max_iters", "train_cfg takes no max_iters.\n"),
        ("val_cfg.fp17", "val_cfg takes no fp17.\nWhat to do: val_cfg.fp16?"),
        ("custom_hooks.0.zzz", "mmquadClosed takes no zzz; it takes parts, width."),
        ("custom_hooks.0.widht.deep", "mmquadClosed takes no widht.\nWhat to do: custom_hooks.0."),
        ("custom_hooks.3.zzz", "Closed takes no zzz; it takes parts, width."),
        ("model.backbonee.depth", "RetinaNet takes no backbonee.\nWhat to do: model.backbone.dept"),
    ],
)
def test_arguments_that_are_not_there(option: str, problem: str):
    assert problem in str(unknown_argument(Config(CONFIG), option))


def test_constructors_of_optimizers_read_what_they_like():
    cfg = Config({"optim_wrapper": {"constructor": "Mine", "generator": {"type": "SGD"}}})
    assert unknown_argument(cfg, "optim_wrapper.discriminator") is None
    assert "takes no lrr" in str(unknown_argument(cfg, "optim_wrapper.generator.lrr"))


def test_what_one_name_is_registered_as_twice_takes_both_ways():
    """``RandomFlip`` is a transform of several libraries, ``Adam`` an optimizer: any may be it."""
    cfg = Config(CONFIG)
    assert unknown_argument(cfg, "train_dataloader.dataset.dataset.pipeline.0.prob") is None
    assert torch.optim.SGD  # registered by mmengine under its name


def test_an_option_is_named_with_the_switch(monkeypatch):
    with pytest.raises(SetupError, match=r"option train_cfg.max_epoch does (?s:.*)-option-arg"):
        check_option_arguments(Config(CONFIG), ["work_dir", "train_cfg.max_epoch"], pytest.fail)
    monkeypatch.setenv("MMQUAD_CHECKS", "-option-arguments")
    check_option_arguments(Config(CONFIG), ["train_cfg.max_epoch"], pytest.fail)
