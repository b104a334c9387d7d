"""Compares the classes of the data with those of the model before the first iteration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmquad.errors import SetupError
from mmquad.registry import HOOKS

__all__ = ["ClassCheckHook"]


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Raise if a head predicts another number of classes than the data has, or the data lacks some.

    Otherwise, too few classes are an index error deep in a loss, on GPUs an assertion of the device
    without a line, too many train outputs that never occur, and class names that are not those of
    the annotation file leave out objects in silence.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and what the training will be validated with."""
        _check(runner.model, runner.train_dataloader.dataset, "train_dataloader")
        if runner.val_loop is not None:
            _check(runner.model, runner.val_dataloader.dataset, "val_dataloader")

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        _check(runner.model, runner.test_dataloader.dataset, "test_dataloader")


def _check(model: Any, dataset: Any, key: str) -> None:
    while is_model_wrapper(model):
        model = model.module
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if not classes:
        return
    for part in _innermost(dataset):
        _check_categories(part, classes, key)
    # Region proposals are of one class, "object".
    wrong = {
        f"{name} ({type(module).__name__})": module.num_classes
        for name, module in model.named_modules()
        if isinstance(getattr(module, "num_classes", None), int)
        and not name.endswith("rpn_head")
        and name != "data_preprocessor"
        and module.num_classes != len(classes)
    }
    if wrong:
        counts = "\n".join(f"  {name}: num_classes={count}" for name, count in wrong.items())
        shown = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
        raise SetupError(
            f"The data of {key} has {len(classes)} classes ({shown}), but the model has\n{counts}\n"
            "What to do: set num_classes of these heads in the config, or metainfo.classes of the "
            "dataset."
        )


def _check_categories(dataset: Any, classes: Any, key: str) -> None:
    found = getattr(dataset, "cat_ids", None)  # mmdet: ids of the classes in the annotation file
    if not isinstance(found, list) or len(found) == len(classes):
        return
    content = json.loads(Path(dataset.ann_file).read_bytes())
    names = [category["name"] for category in content["categories"]]
    absent = [name for name in classes if name not in names]
    raise SetupError(
        f"{len(absent)} classes of {key} are not among the {len(names)} categories of "
        f"{dataset.ann_file}: {absent[:8]}\nThe categories are {names[:8]}.\n"
        "What to do: set metainfo=dict(classes=(...)) of the dataset to names of the file; objects "
        "of other names are left out."
    )


def _innermost(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, "datasets"):
        for part in dataset.datasets:
            yield from _innermost(part)
    elif hasattr(dataset, "dataset"):
        yield from _innermost(dataset.dataset)
    else:
        yield dataset
